"""The README's table of what works. `python -m tests.what_works` puts it there.

Each row names a test; a row whose test does not exist is an error, so write the test first.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from benchmarks import readme

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A feature, what `torch.nn` has of it on a CPU, what fastrnn has, and `file::test` of each."""

    feature: str
    torch: str
    fastrnn: str
    tests: tuple[str, ...]


ROWS = (
    # The modules.
    Row(
        "All constructor arguments; batched, unbatched, any strides; states given or not",
        "yes",
        "the same, on kernels",
        ("test_space.py::test_equal_to_torch",),
    ),
    Row(
        "Types and words of errors and warnings",
        "yes",
        "the same",
        (
            "test_errors.py::test_calls",
            "test_errors.py::test_constructions",
            "test_errors.py::test_calls_after_changes",
        ),
    ),
    Row(
        "`float32`, `float64`, `bfloat16`, `float16`",
        "yes",
        "yes; halves err alike or less",
        ("test_half.py::test_errs_no_more_than_torch", "test_accuracy.py::test_float64"),
    ),
    Row(
        "Autocast",
        "GRU stays in float32; LSTM needs a CPU with bfloat16",
        "RNN, LSTM and GRU in its dtype",
        ("test_autocast.py::test_is_the_half_module_with_float32_gradients",),
    ),
    Row(
        "`PackedSequence`, sorted or not",
        "yes, step by step",
        "yes, on kernels",
        ("test_lengths.py::test_packed_sequence_equals_torch",),
    ),
    Row(
        "`lengths=`, padding on the right or left, zeros allowed",
        "no",
        "yes; work follows the lengths",
        (
            "test_lengths.py::test_each_row_is_computed_as_if_it_were_alone",
            "test_lengths.py::test_work_follows_the_lengths",
        ),
    ),
    Row(
        "`proj_size` of the LSTM",
        "yes",
        "yes, inside the kernels",
        ("test_projections.py::test_equal_to_torch", "test_lengths.py::test_projections"),
    ),
    Row(
        "`output=False`: the last states alone",
        "no",
        "yes; inference writes no output then",
        ("test_inference.py::test_last_states_alone",),
    ),
    Row(
        "Dropout between layers",
        "yes",
        "the same draws",
        ("test_modules.py::test_dropout_draws_and_results_as_torch",),
    ),
    Row(
        "Token ids for an input: one-hot, or with `embedding=weight`",
        "no",
        "yes, on kernels; no vectors are made",
        (
            "test_tokens.py::test_equal_to_torch",
            "test_tokens.py::test_lengths",
            "test_tokens_paths.py::test_ids_out_of_range",
        ),
    ),
    Row(
        "Dropout of states and of inputs, one mask for all steps, as Keras has it",
        "no",
        "`recurrent_dropout=` inside the kernels, `input_dropout=` before them",
        ("test_dropout.py::test_modules", "test_dropout.py::test_kernels_equal_the_reference"),
    ),
    Row(
        "A row's bits depend on neither its batch nor threads",
        "LSTM",
        "yes",
        ("test_accuracy.py::test_a_row_does_not_depend_on_its_batch",),
    ),
    # Weights.
    Row(
        "`RNNCell`, `LSTMCell`, `GRUCell`",
        "yes",
        "the same, on kernels where those are faster",
        (
            "test_cells.py::test_equal_to_torch_over_the_whole_space",
            "test_cells.py::test_half_types",
        ),
    ),
    Row(
        "`state_dict`, `load_state_dict(strict, assign)`",
        "yes",
        "yes, from and to `torch.nn`",
        ("test_module_features.py::test_load_state_dict_of_torch",),
    ),
    Row(
        "`weight_norm`, `spectral_norm`, `parametrize`, `prune`, tied weights, weights that are "
        "replaced or computed",
        "yes",
        "yes, on kernels",
        ("test_weights.py::test_changed_weights",),
    ),
    Row(
        "Frozen weights and inputs cost no gradient",
        "RNN, GRU",
        "yes",
        ("test_frozen.py::test_any_subset",),
    ),
    Row(
        "Meta device, `to_empty`, `reset_parameters`",
        "yes",
        "yes",
        ("test_weights.py::test_made_without_values_first", "test_weights.py::test_meta"),
    ),
    Row(
        "`deepcopy`, `pickle`, `torch.save`, pickles of old versions",
        "yes",
        "yes",
        ("test_module_features.py::test_old_pickles", "test_weights.py::test_copies_after_use"),
    ),
    # With the rest of PyTorch.
    Row(
        "`torch.compile(fullgraph=True)`, any length and batch, training and inference",
        "refuses the modules",
        "one graph, eager's numbers",
        (
            "test_compile.py::test_training",
            "test_compile.py::test_inference",
            "test_ops.py::test_compiles_for_any_length_and_batch",
        ),
    ),
    Row(
        "`torch.export`, any length and batch, saved and loaded; AOTInductor without states",
        "for one length, unrolled",
        "yes",
        (
            "test_export.py::test_any_length_and_batch",
            "test_export.py::test_a_saved_program_runs_in_another_process",
            "test_export.py::test_ahead_of_time",
        ),
    ),
    Row(
        "ONNX (`dynamo=True`), any length and batch",
        "for one length",
        "yes, one standard node a layer",
        ("test_onnx.py::test_any_length_and_batch", "test_onnx.py::test_lengths"),
    ),
    Row(
        "DistributedDataParallel and `fully_shard`",
        "yes",
        "the same losses as one process",
        ("test_distributed.py::test_two_processes_equal_one",),
    ),
    Row(
        "Forward and backward hooks, gradient checkpointing, `torch.func.functional_call`",
        "yes",
        "yes",
        (
            "test_module_features.py::test_hooks",
            "test_module_features.py::test_gradient_checkpointing",
            "test_weights.py::test_functional_call_with_parametrizations_and_ties",
        ),
    ),
    Row(
        "Hooks on saved tensors, `save_on_cpu`, anomaly mode, a graph used twice",
        "yes",
        "yes",
        (
            "test_autograd.py::test_hooks_on_what_is_saved",
            "test_autograd.py::test_anomaly_mode",
            "test_autograd.py::test_a_graph_is_used_twice",
        ),
    ),
    Row(
        "Second derivatives",
        "yes",
        "yes, by the reference",
        ("test_gradients.py::test_second_derivatives",),
    ),
    Row(
        "`torch.func`: `vmap(grad)`, gradients of each sample",
        "LSTM",
        "yes, by the reference",
        ("test_ops.py::test_func_grad_per_sample",),
    ),
    Row(
        "`torch.func.jvp`, forward-mode differentiation",
        "RNN, GRU",
        "yes, by the reference",
        ("test_ops.py::test_jvp",),
    ),
    Row(
        "Gradient penalty, Jacobians, Hessians, ensembles by `vmap`",
        "in part",
        "yes, by the reference",
        (
            "test_func.py::test_gradient_penalty",
            "test_func.py::test_jacobians_agree",
            "test_func.py::test_hessian_by_weights",
            "test_func.py::test_an_ensemble_by_vmap",
        ),
    ),
    Row(
        "Threads of Python, and `fork`, after use",
        "yes",
        "yes",
        (
            "test_inference.py::test_a_forked_child_can_use_what_its_parent_kept",
            "test_inference.py::test_many_threads_of_python_at_once",
        ),
    ),
    # Cells.
    Row(
        "Cells under `torch.func.vmap` and `jvp`",
        "not `LSTMCell`",
        "yes, by the reference",
        ("test_cells.py::test_function_transforms",),
    ),
    Row(
        "Streams of single steps; weights may change and states be zeroed in between",
        "yes",
        "yes, on kernels",
        (
            "test_streaming.py::test_weights_that_change_between_steps",
            "test_streaming.py::test_states_zeroed_in_place_where_an_episode_ends",
        ),
    ),
    # Models of others.
    Row(
        "`accelerate(model)`: models of `torch.nn`, types kept, undone by `restore`",
        "-",
        "yes",
        (
            "test_accelerate.py::test_every_recurrent_module_of_a_model",
            "test_accelerate.py::test_types_stay",
            "test_accelerate.py::test_twice_is_once_and_restore_is_back",
        ),
    ),
    Row(
        "... subclasses, parametrized modules, shared modules, Python lists",
        "-",
        "yes",
        (
            "test_accelerate.py::test_subclasses_that_call_torchs_forward",
            "test_accelerate.py::test_parametrized_modules",
            "test_accelerate.py::test_modules_in_python_lists",
        ),
    ),
    Row(
        "... then `deepcopy`, `copy`, pickles without fastrnn, `DataParallel`'s replicas",
        "yes",
        "yes",
        (
            "test_accelerate.py::test_copies_are_accelerated_and_apart",
            "test_accelerate.py::test_a_pickle_loads_without_fastrnn",
            "test_accelerate_rules.py::test_replicas_of_data_parallel",
        ),
    ),
    Row(
        "... then `jit.script`, `jit.trace`, ONNX, `fx`, `quantize_dynamic`",
        "yes",
        "as `torch.nn`, files need no fastrnn",
        (
            "test_accelerate_tools.py::test_scripts_hold_torchs_functions",
            "test_accelerate_tools.py::test_traces_hold_torchs_functions",
            "test_accelerate_tools.py::test_onnx_files_hold_standard_nodes",
            "test_accelerate_tools.py::test_fx_keeps_modules_whole",
            "test_accelerate_tools.py::test_dynamic_quantisation_converts",
        ),
    ),
    Row(
        "... then `torch.compile`",
        "leaves out what follows",
        "kernels between graphs; one graph with `compile=True`",
        (
            "test_accelerate_tools.py::test_kernels_run_between_the_graphs_of_a_compiled_model",
            "test_accelerate_tools.py::test_full_graphs",
        ),
    ),
    Row(
        "CUDA tensors: the modules, all four dtypes, `PackedSequence`, autocast",
        "yes, cuDNN",
        "compiled and simulated, never run on a GPU",
        (
            "cuda_sim/test_parity.py::test_equals_reference",
            "test_cuda_path.py::test_training",
            "test_fake_cuda.py::test_modules_on_fake_tensors",
        ),
    ),
    Row(
        "... with `lengths=`",
        "no",
        "compiled and simulated, never run on a GPU",
        ("cuda_sim/test_modules.py::test_lengths", "test_cuda_path.py::test_lengths"),
    ),
    Row(
        "... `proj_size`, cells, GPUs older than the kernels",
        "yes",
        "torch's own code, and says why",
        (
            "test_cuda_path.py::test_projections_are_torchs",
            "test_cuda_path.py::test_cells_are_torchs",
            "test_cuda_path.py::test_a_gpu_without_kernels_runs_torchs_code",
        ),
    ),
    Row(
        "Models of others: Resemblyzer, denoiser, Tacotron2, recurrent PPO, forecasting",
        "yes",
        "unchanged, after `accelerate`",
        ("test_clients.py::test_outputs_agree_after_accelerate_and_are_the_same_after_restore",),
    ),
    Row(
        "Works where nothing was compiled",
        "-",
        "yes, and says so",
        ("test_fallback.py::test_same_numbers",),
    ),
    Row(
        "Tells what runs a call, and why; of a whole model too",
        "no",
        "`fastrnn.explain`",
        ("test_explain.py::test_regimes", "test_explain.py::test_a_report_of_a_model"),
    ),
)


def table(rows: tuple[Row, ...] = ROWS) -> str:
    """The table in Markdown.

    Raises:
        ValueError: a row names a test that does not exist.
    """
    lines = ["| | `torch.nn` 2.13 | fastrnn | tests |", "|---|---|---|---|"]
    for row in rows:
        links = []
        for name in row.tests:
            file, _, test = name.partition("::")
            if test not in tests_in(TESTS / file):
                raise ValueError(f"the row {row.feature!r} names {name}, which does not exist")
            links.append(f"[{test}](tests/{file})")
        lines.append(f"| {row.feature} | {row.torch} | {row.fastrnn} | {', '.join(links)} |")
    return "\n".join(lines) + "\n"


def tests_in(file: Path) -> set[str]:
    """The names of the tests that a file defines; none where there is no such file."""
    if not file.is_file():
        return set()
    body = ast.parse(file.read_text()).body
    functions = (node.name for node in body if isinstance(node, ast.FunctionDef))
    return {name for name in functions if name.startswith("test_")}


if __name__ == "__main__":
    readme.put(readme.README, "what-works", table())
