"""serving/configs against TensorFlow Serving's schemas and flags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from .model_server_flags import MODEL_SERVER_FLAGS

CONFIGS = Path(__file__).parents[2] / "serving" / "configs"

# Field numbers of TensorFlow Serving 2.20.0: servables/tensorflow/session_bundle_config.proto, config/ssl_config.proto,
# config/monitoring_config.proto. Its Python package has none of the three.
SCHEMAS = {
    "BatchingParameters": {
        "max_batch_size": (1, "google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, "google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, "google.protobuf.Int64Value"),
        "num_batch_threads": (4, "google.protobuf.Int64Value"),
        "thread_pool_name": (5, "google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, "google.protobuf.Int64Value"),
    },
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
    "GPUOptions": {"per_process_gpu_memory_fraction": (1, "double")},
    "ConfigProto": {
        "intra_op_parallelism_threads": (2, "int32"),
        "inter_op_parallelism_threads": (5, "int32"),
        "gpu_options": (6, "test.GPUOptions"),
    },
    "ModelWarmupOptions": {"num_request_iterations": (1, "google.protobuf.Int32Value")},
    "SessionBundleConfig": {
        "session_config": (2, "test.ConfigProto"),
        "saved_model_tags": (6, "repeated string"),
        "enable_model_warmup": (779, "bool"),
        "model_warmup_options": (780, "test.ModelWarmupOptions"),
        "enable_session_metadata": (781, "bool"),
        "remove_unused_fields_from_bundle_metagraph": (782, "bool"),
        "prefer_tflite_model": (783, "bool"),
        "num_tflite_interpreters_per_pool": (786, "int32"),
        "num_tflite_pools": (787, "int32"),
        "mixed_precision": (791, "string"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "test.PrometheusConfig")},
}


def schema(name: str) -> Any:
    """The message class of one of `SCHEMAS`, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="test.proto", package="test", syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name]
    )
    field_type = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in SCHEMAS.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=field_type.LABEL_OPTIONAL)
            repeated, _, scalar = kind.rpartition(" ")
            if repeated:
                field.label = field_type.LABEL_REPEATED
            if "." in scalar:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".{scalar}"
            else:
                field.type = {
                    "int32": field_type.TYPE_INT32,
                    "int64": field_type.TYPE_INT64,
                    "double": field_type.TYPE_DOUBLE,
                    "bool": field_type.TYPE_BOOL,
                    "string": field_type.TYPE_STRING,
                }[scalar]
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))


def parse(file_name: str, message: Any) -> Any:
    return text_format.Parse((CONFIGS / file_name).read_text(), message)


def session_bundle_config(text: str) -> Any:
    """Returns what a `PlatformConfigMap` text proto says of sessions."""
    # The Python package has the map, but not what the map holds.
    found = re.fullmatch(
        r"(?:#.*\n)*platform_configs \{\s*key: \"tensorflow\"\s*value \{\s*source_adapter_config \{\s*"
        r"\[type\.googleapis\.com/tensorflow\.serving\.SavedModelBundleSourceAdapterConfig\] \{\s*"
        r"legacy_config \{(.*)\}\s*\}\s*\}\s*\}\s*\}\s*",
        text,
        re.DOTALL,
    )
    assert found is not None, text
    return text_format.Parse(found[1], schema("SessionBundleConfig")())


def server_flags() -> dict[str, str]:
    """The flags file as the entrypoint reads it: the first word of each line, if that is a flag."""
    words = [line.split(maxsplit=1)[0] for line in (CONFIGS / "server.flags").read_text().splitlines() if line.strip()]
    flags = [word.removeprefix("--").partition("=") for word in words if word.startswith("--")]
    assert len({name for name, _, _ in flags}) == len(flags), "a flag is given twice"
    return {name: value for name, _, value in flags}


def channel_arguments() -> dict[str, str]:
    return dict(pair.split("=") for pair in server_flags()["grpc_channel_arguments"].split(","))


def test_models_config_is_a_model_server_config() -> None:
    model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    config = parse("models.config", model_server_config_pb2.ModelServerConfig())
    assert config.model_config_list.config
    for model in config.model_config_list.config:
        assert model.name == Path(model.base_path).name
        assert Path(model.base_path).is_absolute(), "the server refuses a relative base_path"
        assert model.model_platform == "tensorflow"


def test_batching_config_is_valid_batching_parameters() -> None:
    batching = parse("batching.config", schema("BatchingParameters")())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert batching.num_batch_threads.value >= 1
    assert batching.max_enqueued_batches.value >= 1


def test_monitoring_config_turns_prometheus_on() -> None:
    assert parse("monitoring.config", schema("MonitoringConfig")()).prometheus_config.enable


def test_ssl_template_fills_every_field_with_inline_pem() -> None:
    config = parse("ssl.config.template", schema("SSLConfig")())
    assert config.client_verify
    for pem in (config.server_key, config.server_cert, config.custom_ca):
        assert pem.startswith("-----BEGIN ")
        assert pem.endswith("-----\n")


def test_the_platform_template_has_the_defaults_of_the_flags() -> None:
    flags = pytest.importorskip("featserve_serving.launch.flags")
    platform_config = pytest.importorskip("featserve_serving.launch.platform_config")
    template = CONFIGS / "platform.config.template"
    defaults = dict(re.findall(r"@([a-z_]+)=([^@]*)@", template.read_text()))
    assert defaults == {name: flags.as_text(getattr(flags.Flags(), name)) for name in defaults}
    config = session_bundle_config(platform_config.filled(template, flags.Flags()))
    assert config.enable_session_metadata and config.enable_model_warmup
    assert list(config.saved_model_tags) == ["serve"]
    assert config.model_warmup_options.num_request_iterations.value == 1


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(text_format.ParseError, match="max_batchsize"):
        text_format.Parse("max_batchsize { value: 1 }", schema("BatchingParameters")())


def test_server_flags_exist_in_tensorflow_serving() -> None:
    # The server itself only prints a line about a flag it doesn't know.
    assert server_flags().keys() <= MODEL_SERVER_FLAGS


def test_featserve_serve_takes_the_same_flags() -> None:
    assert server_flags().keys() <= pytest.importorskip("featserve_serving.launch.flags").flag_names()


def test_server_flags_leave_out_what_hurts() -> None:
    flags = server_flags()
    assert not flags.keys() & {"enable_batching", "batching_parameters_file", "enable_serialization_as_tensor_content"}
    assert flags["enable_grpc_healthcheck_service"] == "true"
    assert flags["enable_profiler"] == "false"
    assert int(flags["grpc_max_threads"]) > 8


def test_each_flag_has_its_reason_beside_it() -> None:
    lines = (CONFIGS / "server.flags").read_text().splitlines()
    bare = [line for line in lines if line.startswith("--") and "#" not in line]
    assert [line.partition("=")[0] for line in bare] == ["--grpc_channel_arguments"]
    explained = " ".join(line for line in lines if line.startswith("#"))
    for name in channel_arguments():
        assert name.removeprefix("grpc.").removeprefix("http2.").removeprefix("keepalive") in explained


def test_channel_arguments_are_what_the_server_can_parse() -> None:
    # It splits at commas and at "=" with no escape, and passes a value on as a number only if it fits in 32 bits.
    for name, value in channel_arguments().items():
        assert name.startswith("grpc.")
        assert 0 < int(value) < 2**31
