"""The verbs that keep what the node has: its index."""

from __future__ import annotations

from dicom_node.cli.printing import print_line, progress
from dicom_node.cli.settings import ConfigOption, load_config, quiet
from dicom_node.errors import IndexUnavailable
from dicom_node.studies.spool import Spool


def reindex(config: ConfigOption = None) -> None:
    """Make the index of the studies anew from their timelines; the node may run."""
    from dicom_node.studies.index import Index
    from dicom_node.studies.listing import count

    quiet()
    settings = load_config(config)
    spool, index = Spool(settings.node.data_dir), Index.of(settings)
    index.clear()
    with progress() as tell:
        tell("reading the timelines")
        if not index.catch_up(spool):
            raise IndexUnavailable("The node is making the index just now: wait a little, then look at `studies`.")
    print_line(f"{sum(count(index).values())} studies.")
