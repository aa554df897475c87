"""``python -m dicom_node``: the command line of the interpreter at hand."""

from dicom_node.cli.app import main

main()
