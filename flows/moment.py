"""The flow `clip_moment` by its former place, which a prefect.yaml of before may name."""

from flows.clip_moment import clip_moment as clip_moment
