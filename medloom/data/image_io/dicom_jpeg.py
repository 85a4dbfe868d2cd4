"""Decoders of lossless, 12-bit and JPEG-LS compressed DICOM, by imagecodecs; importing the module registers them."""

from pydicom import uid
from pydicom.pixels import decoders
from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "imagecodecs"
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
DECODERS = {
    decoder.UID: decoder
    for decoder in (
        decoders.JPEGExtended12BitDecoder,
        decoders.JPEGLosslessDecoder,
        decoders.JPEGLosslessSV1Decoder,
        decoders.JPEGLSLosslessDecoder,
        decoders.JPEGLSNearLosslessDecoder,
    )
}
# Required by pydicom of every plugin.
DECODER_DEPENDENCIES = dict.fromkeys(DECODERS, ("imagecodecs>=2024.9",))


def is_available(syntax: str) -> bool:
    """Whether the plugin decodes a transfer syntax."""
    return syntax in DECODERS


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """The values of one frame, colours by pixel and not transformed."""
    import imagecodecs

    if runner.transfer_syntax in JPEG_LS:
        pixels = imagecodecs.jpegls_decode(source)
    else:
        raw = None if runner.samples_per_pixel == 1 else "YCBCR"
        pixels = imagecodecs.jpeg8_decode(source, colorspace=raw, outcolorspace=raw)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    values: bytes = pixels.tobytes()
    return values


for _decoder in DECODERS.values():
    if PLUGIN not in _decoder.available_plugins:
        _decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
