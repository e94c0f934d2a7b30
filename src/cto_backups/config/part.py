"""What every part of the policy file's model is."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Strict: no unknown settings, no guessing between text and numbers."""

    # Built when first used: of the parts, reading a sound file needs no validator of their own.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False, defer_build=True)
