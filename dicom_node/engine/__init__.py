"""Work that survives: queues, the worker, deliveries, and the processes that hold them."""
