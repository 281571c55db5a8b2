"""Convert one ONNX file by rknn-toolkit 1.7: a job file in, a .rknn file and an answer file out. Stand-alone: `python convert.py JOB.json`,
and `python convert.py --version`, which prints {"ok": true, "toolkit": "rknn-toolkit 1.7.5"} as its last line, or ok = false and the reason.

The toolkit logs most errors and raises few: every return code is looked at. 0 and None are success (`config` has returned both), all else is failure.
"""

import json
import os
import sys


class Failed(Exception):
    pass


def checked(step, code):
    if code not in (0, None):
        raise Failed("rknn-toolkit failed in {} (code {!r}): its log says why".format(step, code))


def edited(text, layers):
    """The quantization file of hybrid step 1 with `layers` (name -> dtype) filled in."""
    empty = "customized_quantize_layers: {}"
    if empty not in text:
        raise Failed("hybrid step 1 wrote a quantization file without {!r}".format(empty))
    for name in layers:
        if name not in text:
            raise Failed("hybrid step 1 knows no layer {!r}: the .quantization.cfg beside the log names them".format(name))
    lines = "".join("\n    {}: {}".format(json.dumps(name), layers[name]) for name in sorted(layers))
    return text.replace(empty, "customized_quantize_layers:" + lines)


def convert(rknn, job):
    # quantized_dtype is left out: the guide and the signature spell u8 differently, and it is the default.
    code = rknn.config(mean_values=[job["mean"]], std_values=[job["std"]], batch_size=job["batch_size"], target_platform=[job["target_platform"]])
    checked("config", code)
    checked("load_onnx", rknn.load_onnx(model=job["model"]))
    if job["layers"]:
        checked("hybrid_quantization_step1", rknn.hybrid_quantization_step1(dataset=job["dataset"]))
        stem = os.path.splitext(os.path.basename(job["model"]))[0]
        config = stem + ".quantization.cfg"
        with open(config) as stream:
            text = stream.read()
        with open(config, "w") as stream:
            stream.write(edited(text, job["layers"]))
        code = rknn.hybrid_quantization_step2(
            model_input=stem + ".json", data_input=stem + ".data", model_quantization_cfg=config, dataset=job["dataset"]
        )
        checked("hybrid_quantization_step2", code)
    elif job["dataset"]:
        checked("build", rknn.build(do_quantization=True, dataset=job["dataset"]))
    else:
        checked("build", rknn.build(do_quantization=False))
    checked("export_rknn", rknn.export_rknn(job["output"]))
    if not os.path.isfile(job["output"]) or not os.path.getsize(job["output"]):
        raise Failed("rknn-toolkit reported success and wrote no file")


def toolkit_version():
    try:
        from importlib.metadata import version  # novermin: CPython 3.8, and what follows is for those before

        return "rknn-toolkit " + version("rknn-toolkit")
    except Exception:
        pass
    try:
        import pkg_resources

        return "rknn-toolkit " + pkg_resources.get_distribution("rknn-toolkit").version
    except Exception:  # whatever an old setuptools raises: a version is a note, not a reason to fail
        return "rknn-toolkit, version not known"


def tell_version():
    try:
        from rknn.api import RKNN

        answer = {"ok": True, "toolkit": toolkit_version()}
    except Exception as error:  # a toolkit that cannot be imported raises what it likes
        answer = {"ok": False, "reason": "{}: {}".format(type(error).__name__, error)}
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


def main(path):
    if path == "--version":
        return tell_version()
    with open(path) as stream:
        job = json.load(stream)
    answer = {"ok": True, "reason": "", "toolkit": ""}
    try:
        from rknn.api import RKNN

        rknn = RKNN(verbose=True, verbose_file=job["verbose_file"])
        try:
            convert(rknn, job)
        finally:
            rknn.release()
        answer["toolkit"] = toolkit_version()
    except ImportError as error:
        answer.update(ok=False, reason="this Python has no rknn-toolkit ({})".format(error))
    except Failed as error:
        answer.update(ok=False, reason=str(error))
    except Exception as error:  # the toolkit's own bugs are a result too
        answer.update(ok=False, reason="rknn-toolkit raised {}: {}".format(type(error).__name__, error))
    with open(job["answer"] + ".part", "w") as stream:
        json.dump(answer, stream)
    os.replace(job["answer"] + ".part", job["answer"])
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
