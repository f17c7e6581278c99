# SPDX-License-Identifier: Apache-2.0
"""One life of a real engine, in a process of its own: ``run_engine.py JOB.json ANSWER.json``.

The job names the model folder, the prompts and the connector's configuration; the answer holds the
sampled token ids, and how many tokens of each prompt came from a cache.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(job_file: str, answer_file: str) -> None:
    """Run the job."""
    job: dict[str, Any] = json.loads(Path(job_file).read_text())
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    options: dict[str, Any] = {"dtype": "bfloat16", **job.get("engine", {})}
    if job.get("connector") is not None:
        options["kv_transfer_config"] = {
            "kv_connector": "UCMConnector",
            "kv_connector_module_path": "ucm.integration.vllm.ucm_connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": job["connector"],
        }
    engine = LLM(
        job["model"],
        enforce_eager=True,
        max_model_len=4096,
        distributed_executor_backend="uni",
        **options,
    )
    sampling = SamplingParams(max_tokens=job["tokens"], temperature=0.0, ignore_eos=True)
    answers = []
    for prompt in job["prompts"]:
        [result] = engine.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)
        answers.append(
            {"tokens": list(result.outputs[0].token_ids), "cached": result.num_cached_tokens}
        )
        time.sleep(job.get("pause_s", 0.0))
    Path(answer_file).write_text(json.dumps(answers))
    engine.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
