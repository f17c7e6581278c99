# SPDX-License-Identifier: Apache-2.0
"""The KV connector for vLLM; the class is `ucm.integration.vllm.ucm_connector.UCMConnector`."""
