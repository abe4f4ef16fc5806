"""`python bench/keras_example.py FOLDER MANIFEST`: one epoch of Keras's cats-vs-dogs example; one JSON line.

A small Xception (Chollet, 2017, https://arxiv.org/abs/1610.02357) at 180 px, Adam at 3e-4, batches of 128, random flip
and rotation, as the example has them. Needs TensorFlow and Keras, not pati. Where the epoch would take longer than
LIMIT seconds it is cut there, and said.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

SIZE, BATCH, LIMIT = 180, 128, 2400.0


def net() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(128, 3, strides=2, padding="same")(x)))
    carried = x
    for width in (256, 512, 728):
        for _ in range(2):
            x = layers.SeparableConv2D(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = carried = layers.add([x, layers.Conv2D(width, 1, strides=2, padding="same")(carried)])
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.SeparableConv2D(1024, 3, padding="same")(x)))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(1)(x))


class Clock(keras.callbacks.Callback):
    """Stops after LIMIT seconds; the first step, which compiles, is timed apart."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        now = time.monotonic()
        if batch == 0:
            self.first = now
        self.steps, self.last = batch + 1, now
        if now - self.first > LIMIT:
            self.model.stop_training = True
            raise StopIteration


def photos(folder: Path, manifest: Path, split: str) -> tuple[list[str], list[float]]:
    entries = [json.loads(line) for line in manifest.read_text().splitlines()[1:]]
    chosen = [entry for entry in entries if entry.get("split") == split]
    return [str(folder / entry["path"]) for entry in chosen], [float(entry["label"] == "Dog") for entry in chosen]


def load(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    return tf.ensure_shape(tf.image.resize(pixels, (SIZE, SIZE)), (SIZE, SIZE, 3)), label


def main() -> None:
    folder, manifest = Path(sys.argv[1]), Path(sys.argv[2])
    started = time.monotonic()
    keras.utils.set_random_seed(0)
    paths, labels = photos(folder, manifest, "train")
    change = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    training = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths), seed=0)
    training = training.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    training = training.map(lambda x, y: (change(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    model, clock = net(), Clock()
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    whole = True
    try:
        model.fit(training.prefetch(2), epochs=1, verbose=2, callbacks=[clock])
    except StopIteration:
        whole = False
    row = {
        "photos": len(paths),
        "steps": clock.steps,
        "whole_epoch": whole,
        "versions": [tf.__version__, keras.__version__],
    }
    row["photos_per_second"] = round((clock.steps - 1) * BATCH / (clock.last - clock.first), 1)
    row["epoch_minutes"] = round(len(paths) / row["photos_per_second"] / 60, 1)
    if whole:
        test = tf.data.Dataset.from_tensor_slices(photos(folder, manifest, "test")).map(load).batch(BATCH)
        row["test_accuracy"] = round(float(model.evaluate(test, verbose=0)[1]), 4)
        row["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
