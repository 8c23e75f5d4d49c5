"""Former entry point of the flow `clip_moment`, which older prefect.yaml files name."""

from flows.clip_moment import clip_moment as clip_moment
