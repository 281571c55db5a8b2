"""Runs on the target: the whole pipeline of one bundle in one process, and how much memory each step takes; prints one JSON line.

`python3 memory_trial.py BUNDLE CLIPS.npy [ROWS]`; what to try comes in as environment variables, since some must be set before Python starts:
TRIAL_ARENA=off, TRIAL_PATTERN=off, TRIAL_GRAPH=basic|none, TRIAL_PREPACK=off, TRIAL_IMPORT=lean (numpy and the runtime's own library, without the
runtime's Python package around it). It is what the agent's memory pass does, without the agent: the difference is what the agent costs.
"""

import json
import os
import sys


def high_water_mib():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    raise RuntimeError("no VmHWM on this kernel")


def lean_runtime():
    """onnxruntime's compiled module alone: its package imports a training interface, checks of the system and more."""
    import types

    for name in ("onnxruntime", "onnxruntime.capi"):
        module = types.ModuleType(name)
        module.__path__ = [os.path.join(path, *name.split(".")) for path in sys.path if os.path.isdir(os.path.join(path, *name.split(".")))]
        sys.modules[name] = module
    from onnxruntime.capi import onnxruntime_pybind11_state

    return onnxruntime_pybind11_state


def session(runtime, lean, path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    asked = os.environ.get
    options.enable_cpu_mem_arena = asked("TRIAL_ARENA") != "off"
    options.enable_mem_pattern = asked("TRIAL_PATTERN") != "off"
    if asked("TRIAL_PREPACK") == "off":
        options.add_session_config_entry("session.disable_prepacking", "1")
    if asked("TRIAL_GRAPH"):
        levels = runtime.GraphOptimizationLevel
        options.graph_optimization_level = {"basic": levels.ORT_ENABLE_BASIC, "none": levels.ORT_DISABLE_ALL}[asked("TRIAL_GRAPH")]
    if not lean:
        opened = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda feed, names: opened.run(names, feed)
    opened = runtime.InferenceSession(options, path, True, False)
    opened.initialize_session([], [], set())
    return lambda feed, names: opened.run(names, feed, None)


def main(folder, clips_path, rows):
    steps = {"interpreter": high_water_mib()}
    import numpy

    steps["numpy"] = high_water_mib()
    lean = os.environ.get("TRIAL_IMPORT") == "lean"
    if lean:
        runtime = lean_runtime()
    else:
        import onnxruntime as runtime
    steps["runtime"] = high_water_mib()
    with open(os.path.join(folder, "manifest.json")) as file:
        manifest = json.load(file)
    extract, predict = [session(runtime, lean, os.path.join(folder, manifest[part]["file"])) for part in ("extractor", "predictor")]
    steps["model"] = high_water_mib()
    clips = numpy.lib.format.open_memmap(clips_path, "r")
    logits = []
    told = manifest["preprocess"]
    for clip in clips[:rows]:
        frames = clip.astype(numpy.float32) / numpy.float32(255)
        planes = [(frames - numpy.float32(told["mean"])) / numpy.float32(told["std"])]
        if told["difference"]:
            planes.append((frames - frames[:1]) / numpy.float32(told["std"]))
        inputs = numpy.stack(planes, axis=1)
        names = manifest["extractor"]["input"]["name"], manifest["extractor"]["output"]["name"]
        features = [extract({names[0]: inputs[t : t + 1]}, [names[1]])[0] for t in range(len(inputs))]
        names = manifest["predictor"]["input"]["name"], manifest["predictor"]["output"]["name"]
        logits.append([float(value) for value in predict({names[0]: numpy.stack(features, axis=1)}, [names[1]])[0].ravel()])
    steps["peak"] = high_water_mib()
    print(json.dumps({"mib": {name: round(value, 2) for name, value in steps.items()}, "logits": logits}, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2)
