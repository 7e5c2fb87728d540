"""Names of other frameworks and of published guides, with the answer of curate to each.

Code that is moved to curate has these names in it. Where one of them is asked for, the message has the name of curate
and not the one that is spelt most like it; docs/coming-from.md has the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FOREIGN_NAMES: Mapping[str, str] = MappingProxyType(
    {
        # executors of NeMo Curator, and their options
        "XennaExecutor": 'pass the name of an executor, such as pipeline.run("multiprocessing") or "ray"',
        "RayDataExecutor": 'pass the name of an executor, pipeline.run("ray")',
        "RayActorPoolExecutor": 'pass the name of an executor, pipeline.run("ray")',
        "num_workers": "each stage has its number of workers: .with_(workers=…)",
        "max_retries": "each stage has its number of retries: .with_(retries=…); a worker that dies is always replaced",
        "resources_per_worker": "each stage has the resources of its workers: .with_(resources=Resources(…))",
        "worker_startup_timeout": "the option is called setup_timeout_s",
        "ray_init_kwargs": "the ray executor has num_cpus, num_gpus, object_store_memory and, for the rest, init",
        "ignore_failures": "a failing record goes to quarantine; max_failures and max_failure_ratio limit their number",
        # NeMo Curator's guide to ASR performance
        "calculate_optimal_batch_size": "use curate.batching.suggest(…), or curate bench suggest",
        "create_duration_balanced_batches": "write batching: duration at the ASR stage, or use DurationBatcher",
        "monitor_memory_usage": "a run reports the peak memory of every ASR stage; by itself, "
        "curate.monitoring.PerformanceMonitor",
        "AdaptiveBatchProcessor": "use DynamicBatchAsrStage, or curate.batching.BatchController",
        "benchmark_batch_sizes": "use curate bench batch-size, or curate.bench.bench_batch_sizes(…)",
        "real_time_factor": "the figure is called rtfx: seconds of audio per second of wall time",
        # batching of Omnilingual ASR and fairseq2
        "BatchingStrategy": "write batching: length or batching: static at the ASR stage",
        "LENGTH": "write batching: length",
        "STATIC": "write batching: static",
        "min_audio_len": "use min_s, in seconds and not in samples",
        "max_audio_len": "use max_s, in seconds and not in samples",
        "max_num_elements": "use max_batch_s, in seconds and not in samples",
        "num_seqs_multiple_of": "use LengthBatcher(multiple_of=…), or batching_options: {multiple_of: 8}",
        "num_prefetch": "use .with_(prefetch_batches=…)",
    }
)
