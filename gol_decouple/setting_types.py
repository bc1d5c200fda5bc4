"""What the values of settings can be, and what every section of a config has in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _number(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not abs(value) <= 1e38):
        raise PydanticCustomError("number", "input should be a finite number, of at most 1e38")
    return value


def _folder_name(name: str) -> str:
    if name != Path(name).name or name in ("", "..") or not name.isprintable():
        raise PydanticCustomError("folder_name", "input should be the name of a folder, not a path")
    return name


# Upper bounds are those of what the numbers become: int32, NumPy's legacy seeds, and float32.
Positive = Annotated[int, BeforeValidator(_number), Field(gt=0, lt=2**31)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**31)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**32)]
Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Rate = Annotated[Float, Field(gt=0)]
NonNegative = Annotated[Float, Field(ge=0)]
Fraction = Annotated[Float, Field(ge=0, lt=1)]
Share = Annotated[Float, Field(gt=0, lt=1)]
FilePath = Annotated[str | None, AfterValidator(lambda path: path and os.path.expanduser(path))]
FolderName = Annotated[str, AfterValidator(_folder_name)]


class Section(BaseModel):
    """A section of a config: what is not among its keys is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
