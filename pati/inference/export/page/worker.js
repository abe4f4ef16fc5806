// The network runs in a worker, so that the page stays responsive. `ort` is ONNX Runtime Web; `fitted` comes from
// preprocess.js. A message names a task; the answer has the same number.

const tasks = {
  async start({ runtime, model }) {
    if (!readsTrue()) throw new Error("protected");
    ort.env.wasm.numThreads = 1; // more need headers that a file has not
    ort.env.wasm.wasmBinary = await unpacked(runtime);
    tasks.session = await ort.InferenceSession.create(await unpacked(model), { logSeverityLevel: 3 });
  },

  // A photo -> probabilities [K], p-value or null, map {values, rows, columns} or null.
  async answer({ image, size, resize }) {
    const pixels = fitted(rowsOf(image), image.width, image.height, size, resize);
    image.close();
    const found = await tasks.session.run({ pixels: new ort.Tensor("uint8", pixels, [1, size, size, 3]) });
    return {
      probabilities: Array.from(found.probabilities.data),
      pValue: found.p_values?.data[0] ?? null,
      map: found.map ? { values: found.map.data, rows: found.map.dims[1], columns: found.map.dims[2] } : null,
    };
  },
};

onmessage = async ({ data: { number, task, given } }) => {
  try {
    postMessage({ number, answer: await tasks[task](given) });
  } catch (error) {
    postMessage({ number, error: String(error?.message ?? error) });
  }
};

// gzip -> bytes
async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Reads strips of an image, on white where it is transparent.
function rowsOf(image) {
  const canvas = new OffscreenCanvas(image.width, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return (top, rows) => {
    if (canvas.height !== rows) canvas.height = rows;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, image.width, rows);
    context.drawImage(image, 0, -top);
    return context.getImageData(0, 0, image.width, rows).data;
  };
}

// Whether pixels are read as they are drawn: some browsers add noise, against being recognised by it.
function readsTrue() {
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  for (let row = 0; row < 16; row++) {
    for (let column = 0; column < 16; column++) {
      context.fillStyle = `rgb(${16 * row}, ${16 * column}, 128)`;
      context.fillRect(column, row, 1, 1);
    }
  }
  const { data } = context.getImageData(0, 0, 16, 16);
  for (let at = 0; at < 256; at++) {
    const expected = [16 * Math.floor(at / 16), 16 * (at % 16), 128, 255];
    if (expected.some((value, channel) => data[4 * at + channel] !== value)) return false;
  }
  return true;
}
