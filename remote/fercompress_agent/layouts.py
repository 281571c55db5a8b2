"""Clips as a foreign model wants them: axes in any order, grey repeated over its channels, whole clips or frames, its dtype; nothing here is timed
but `join`.

A manifest's layout is a string of axes, as in NCHW: N batch (always 1), T time, C channels, H rows, W columns, D features. With a T among its axes an
extractor is called once per clip, without one once per frame.
"""


class Layouts:
    """numpy: the module; manifest: of an imported bundle, with extractor.input.layout and predictor.input.layout"""

    def __init__(self, numpy, manifest):
        self.numpy = numpy
        self.preprocess = manifest["preprocess"]
        told = manifest["extractor"]["input"]
        self.layout, self.dtype, self.channels = told["layout"], told["dtype"], told["channels"]
        self.length = manifest["frames"]
        self.features = manifest["predictor"]["input"]["layout"]
        self.joined_shape = tuple(manifest["predictor"]["input"]["shape"])
        self.whole = bool(manifest.get("one_file"))

    def frames(self, pixels, shape):
        """pixels: one clip's bytes, uint8 (T, H, W) = shape; returns the inputs of the extractor's calls"""
        numpy = self.numpy
        clip = numpy.frombuffer(pixels, numpy.uint8).reshape(shape)
        if self.dtype == "uint8":
            planes = [clip]
        else:
            part = clip.astype(numpy.float32) / numpy.float32(255)
            std = numpy.float32(self.preprocess["std"])
            planes = [(part - numpy.float32(self.preprocess["mean"])) / std]
            if self.preprocess["difference"]:
                planes.append((part - part[:1]) / std)
        planes = planes * (self.channels // len(planes))
        stacked = numpy.stack(planes, axis=1).astype(self.dtype)  # T, C, H, W
        return [self._ordered(stacked, "TCHW")] if "T" in self.layout else [self._ordered(frame, "CHW") for frame in stacked]

    def _ordered(self, array, axes):
        """axes: of the array; those that the layout lacks have length 1."""
        missing = [place for place, axis in enumerate(axes) if axis not in self.layout]
        array = array.reshape([size for place, size in enumerate(array.shape) if place not in missing])
        axes = [axis for axis in axes if axis in self.layout]
        array = array.transpose([axes.index(axis) for axis in self.layout if axis != "N"])
        if "N" in self.layout:
            array = self.numpy.expand_dims(array, self.layout.index("N"))
        return self.numpy.ascontiguousarray(array)

    def join(self, features):
        """features: of every call; returns the predictor's input"""
        if self.whole:
            return features[0]
        joined = features[0] if len(features) == 1 else self.numpy.stack(features)
        joined = joined.reshape((self.length, -1))
        return (joined.T if self.features == "NDT" else joined).reshape(self.joined_shape)


class Passing:
    """In the place of an extractor's session where one file does all: what goes in comes out."""

    def run(self, names, given):
        return list(given.values())
