"""A strict stand-in for rknn_toolkit_lite 1.7: the signatures of its `RKNNLite`."""

import fake_npu


class RKNNLite(fake_npu.Context):
    def __init__(self, verbose=False, verbose_file=None):
        super().__init__(verbose, verbose_file)

    def init_runtime(
        self, target=None, target_sub_class=None, device_id=None, perf_debug=False, eval_mem=False, async_mode=False, rknn2precompile=False
    ):
        if not fake_npu.on_board():
            raise AttributeError("'NoneType' object has no attribute 'format'")  # what 1.7.5 probably does on x86
        if perf_debug or eval_mem:
            self.log.error("perf_debug and eval_mem are not currently supported")
        return self._start(target)
