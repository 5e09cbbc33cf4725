// @grpc/grpc-js, with TensorFlow Serving's services from a set of descriptors.
"use strict";
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const plan = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(plan.descriptors), {
  keepCase: true, enums: String, longs: Number,
});
const serving = grpc.loadPackageDefinition(definition).tensorflow.serving;
const plain = grpc.credentials.createInsecure();
const prediction = new serving.PredictionService(plan.grpc, plain);
const models = new serving.ModelService(plan.grpc, plain);

const tell = (call, answer) => console.log(JSON.stringify({ call, answer }));
const ask = (stub, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 60000);
    stub[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
const shape = (value) => (Array.isArray(value) ? [value.length, ...shape(value[0])] : []);
const tensor = (dtype, sizes, fields) => ({
  dtype, tensor_shape: { dim: sizes.map((size) => ({ size })) }, ...fields,
});
// Two images, a vector each.
const rows = (output) => {
  const values = output.tensor_content?.length
    ? new Float32Array(new Uint8Array(output.tensor_content).buffer)
    : output.float_val;
  const width = values.length / plan.jpegs.length;
  return plan.jpegs.map((_, row) => Array.from(values).slice(row * width, (row + 1) * width));
};

async function main() {
  const floats = Buffer.from(new Float32Array(plan.float.flat(3)).buffer);
  const inputs = {
    encoded: ["encoded", "image_bytes",
      tensor("DT_STRING", [plan.jpegs.length], { string_val: plan.jpegs.map((file) => fs.readFileSync(file)) })],
    uint8: ["serving_default", "images",
      tensor("DT_UINT8", shape(plan.uint8), { tensor_content: Buffer.from(plan.uint8.flat(3)) })],
    float: ["float_images", "images", tensor("DT_FLOAT", shape(plan.float), { tensor_content: floats })],
  };
  for (const [call, [signature_name, name, value]] of Object.entries(inputs)) {
    const model_spec = { name: plan.model, signature_name };
    // A map that comes from descriptors is its entries.
    const answer = await ask(prediction, "Predict", { model_spec, inputs: [{ key: name, value }] });
    tell(call, rows(answer.outputs[0].value));
  }
  const model_spec = { name: plan.model };
  const metadata = await ask(prediction, "GetModelMetadata", { model_spec, metadata_field: ["signature_def"] });
  const packed = metadata.metadata[0].value.value;
  tell("metadata", plan.signatures.filter((name) => packed.includes(name)));
  const status = await ask(models, "GetModelStatus", { model_spec });
  tell("status", status.model_version_status.map((each) => each.state));
  const input = { example_list: { examples: [{}] } };
  await ask(prediction, "Classify", { model_spec, input }).catch((error) => tell("classify", grpc.status[error.code]));
  prediction.close();
  models.close();
}

main();
