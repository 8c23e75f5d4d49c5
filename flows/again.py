"""The flow `analyse_recording` by its former place, which a prefect.yaml of before may name."""

from flows.reanalyse import analyse_recording as analyse_recording
