"""What the libraries of networks raise for a folder that does not hold what they expect."""

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

LOAD_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    AttributeError,
    NotImplementedError,
    SafetensorError,
    # Of a config.json with a value of another type.
    StrictDataclassError,
)
