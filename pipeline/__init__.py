"""One study's imaging in data-flow order: plain functions over files and images, no socket, queue or config."""
