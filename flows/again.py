"""Former entry point of the flow `analyse_recording`, which older prefect.yaml files name."""

from flows.reanalyse import analyse_recording as analyse_recording
