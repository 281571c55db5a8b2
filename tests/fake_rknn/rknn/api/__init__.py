"""A strict stand-in for rknn-toolkit 1.x: signatures, return codes, order of calls as documented; errors are logged, not raised."""

import json
import os

import fake_npu
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

REFUSED = {"GRU", "Where", "Greater", "Less", "Equal", "And", "Or", "Not", "TopK", "Softplus", "Resize", "QLinearConv", "Einsum"}
DTYPES = {"asymmetric_affine-u8", "dynamic_fixed_point-i8", "dynamic_fixed_point-i16", "float32"}


class RKNN(fake_npu.Context):
    def __init__(self, verbose=False, verbose_file=None):
        super().__init__(verbose, verbose_file)
        self.settings = self.loaded = self.built = self.halfway = None

    # Keywords only: the order of the real one's thirty parameters is nothing to lean on.
    def config(
        self, *, batch_size=100, mean_values=None, std_values=None, quantized_dtype="asymmetric_affine-u8", quantized_algorithm="normal",
        mmse_epoch=3, reorder_channel=None, optimization_level=3, target_platform=None, need_horizontal_merge=False, output_optimize=0,
    ):  # fmt: skip
        if target_platform is not None and not isinstance(target_platform, list):
            return self.log.error("target_platform must be a list")
        for values in (mean_values, std_values):
            if values is not None and not (isinstance(values, list) and all(isinstance(row, list) for row in values)):
                return self.log.error("mean_values and std_values must be lists of lists")
        if quantized_dtype not in DTYPES - {"float32"}:
            return self.log.error(f"quantized_dtype {quantized_dtype} is not supported")
        self.settings = {"mean": mean_values, "std": std_values, "batch": batch_size, "platform": target_platform or ["rk1808"]}
        return 0 if fake_npu.version() == "1.6.0" else None

    def load_onnx(self, model, inputs=None, input_size_list=None, outputs=None):
        if self.settings is None:
            return self.log.error("Please call config first!")
        if not os.path.isfile(model):
            return self.log.error(f"ONNX model {model} does not exist")
        loaded = onnx.load(model)
        opset, ir_version = fake_npu.TABLE[fake_npu.version()]
        if loaded.ir_version > ir_version:
            return self.log.error(f"Your model ir_version is higher than {ir_version}")
        if any(item.version > opset for item in loaded.opset_import):
            return self.log.error(f"opset above {opset} is not supported")
        weights = {item.name: item for item in loaded.graph.initializer}
        if any(item.name in weights for item in loaded.graph.input):
            return self.log.error("an initializer is among the inputs")
        (source,) = loaded.graph.input
        if any(not size.dim_value for size in source.type.tensor_type.shape.dim):
            return self.log.error("Loading dynamic inputs model is not supported, please fix it first")
        for node in loaded.graph.node:
            if node.op_type in REFUSED or node.domain:
                return self.log.error(f"NotImplementedError: {node.op_type}")
            if node.op_type == "Conv" and (node.input[1] not in weights or len(weights[node.input[1]].dims) == 5):
                return self.log.error(f"NotImplementedError: {node.op_type} {node.output[0]}")
            if any(place and name and name not in weights for place, name in enumerate(node.input)) and node.op_type == "Conv":
                return self.log.error(f"KeyError: bias of {node.output[0]}")
        channels = source.type.tensor_type.shape.dim[1].dim_value
        for key, default in (("mean", 0.0), ("std", 1.0)):
            self.settings[key] = self.settings[key] or [[default] * channels]
            if len(self.settings[key]) != 1 or len(self.settings[key][0]) != channels:
                return self.log.error(f"{key}_values do not match {channels} channels of one input")
        self.loaded, self.stem = loaded, os.path.splitext(os.path.basename(model))[0]
        return 0

    def build(self, do_quantization=True, dataset="dataset.txt", pre_compile=False, rknn_batch_size=-1):
        if self.loaded is None:
            return self.log.error("Please load a model first!")
        if pre_compile and fake_npu.version() == "1.7.5":
            return self.log.error("pre_compile is not supported")
        if not do_quantization:
            self.built = fake_npu.half(self.loaded)
            return 0
        samples = self._samples(dataset)
        if samples is None:
            return -1
        self.built = self._quantized(samples, [])
        return 0

    def hybrid_quantization_step1(self, dataset=None):
        if self.loaded is None or self._samples(dataset) is None:
            return self.log.error("hybrid_quantization_step1 failed")
        names = [node.output[0] for node in self.loaded.graph.node]
        with open(self.stem + ".quantization.cfg", "w") as stream:
            stream.write("customized_quantize_layers: {}\nquantize_parameters:\n")
            for name in names:
                stream.write(f"    '@{name}:out0':\n        dtype: asymmetric_affine\n        method: layer\n        qtype: u8\n")
        for suffix in (".json", ".data"):
            with open(self.stem + suffix, "w") as stream:
                json.dump(names, stream)
        self.halfway = names
        return 0

    def hybrid_quantization_step2(self, model_input, data_input, model_quantization_cfg, dataset, pre_compile=False):
        if self.halfway is None or not all(os.path.isfile(path) for path in (model_input, data_input, model_quantization_cfg)):
            return self.log.error("hybrid_quantization_step2 needs what step 1 wrote")
        with open(model_quantization_cfg) as stream:
            text = stream.read().split("quantize_parameters:")[0]
        chosen = dict(line.strip().split(": ") for line in text.splitlines()[1:])
        chosen = {name.strip('"'): dtype for name, dtype in chosen.items()}
        if set(chosen) - set(self.halfway) or set(chosen.values()) - DTYPES or len(set(chosen.values())) > 1:
            return self.log.error(f"customized_quantize_layers cannot be {chosen}")
        samples = self._samples(dataset)
        if samples is None:
            return -1
        self.built = self._quantized(samples, sorted(chosen))
        return 0

    def export_rknn(self, export_path):
        if self.built is None:
            return self.log.error("Please build the model first!")
        with open(export_path, "wb") as stream:
            stream.write(fake_npu.pack(self.built, self.settings))
        return 0

    def init_runtime(
        self, target=None, target_sub_class=None, device_id=None, perf_debug=False, eval_mem=False, async_mode=False, rknn2precompile=False
    ):
        if not fake_npu.on_board() and target is None and fake_npu.version() == "1.7.5":
            return self.log.error("target None is invalid: the simulator is not supported")
        self.eval_mem = eval_mem
        return self._start(target)

    def eval_perf(self, inputs=None, data_type=None, data_format=None, is_print=True, loop_cnt=1):
        if self.session is None:
            return self.log.error("Runtime environment is not inited, please call init_runtime to init it first!")
        text = "=" * 20 + "\n   Average inference Time(us): 5438.98\n   FPS: 183.86\n" + "=" * 20
        kind = os.environ.get("FAKE_RKNN_PERF", "dict")
        if kind == "printed" and is_print:
            print(text)
        return {"dict": {"total_time": 5438.98}, "text": text}.get(kind)

    def eval_memory(self, is_print=True):
        if self.session is None or not self.eval_mem:
            self.log.error("eval_memory needs init_runtime(eval_mem=True)")
            return None
        return {
            "system_memory": {"maximum_allocation": 1000, "total_allocation": 3000},
            "npu_memory": {"maximum_allocation": 2000, "total_allocation": 2500},
            "total_memory": {"maximum_allocation": 3000, "total_allocation": 5500},
        }

    def _samples(self, dataset):
        """float32 (1, C, H, W) each, or None where the real one's input queue would run dry."""
        shape = [size.dim_value for size in self.loaded.graph.input[0].type.tensor_type.shape.dim]
        try:
            with open(dataset) as stream:
                names = stream.read().split()
            samples = [np.load(name) for name in names]
        except (OSError, TypeError, ValueError) as error:
            self.log.error(f"{error}")
            return None
        if not samples:
            self.log.error("FIFOQueue '_1_batch_queue/fifo_queue' is closed and has insufficient elements (OutOfRange)")
            return None
        wanted = (1, shape[2], shape[3], shape[1])
        for name, sample in zip(names, samples, strict=True):
            if sample.shape != wanted or sample.dtype not in (np.float32, np.uint8):
                self.log.error(f"{name}: {sample.dtype} {sample.shape}, NHWC {wanted} is wanted")
                return None
        return [fake_npu.normalised(sample.astype(np.float32).transpose(0, 3, 1, 2), self.settings) for sample in samples]

    def _quantized(self, samples, apart):
        """One scale per tensor, weights and activations in u8; `apart`: outputs of nodes that stay as they are."""
        source = self.loaded.graph.input[0].name

        class Reader(CalibrationDataReader):
            feeds = iter([{source: sample} for sample in samples])

            def get_next(self):
                return next(self.feeds, None)

        plain = onnx.ModelProto()
        plain.CopyFrom(self.loaded)
        for index, node in enumerate(plain.graph.node):
            node.name = node.name or f"n{index}"
        kept = [node.name for node in plain.graph.node if node.output[0] in apart]
        target = self.stem + ".u8.onnx"
        quantize_static(
            plain, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=False, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8, nodes_to_exclude=kept,
        )  # fmt: skip
        return onnx.load(target)
