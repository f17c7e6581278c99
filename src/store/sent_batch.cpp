// SPDX-License-Identifier: Apache-2.0
#include "store/sent_batch.h"

namespace ucm {
namespace {

struct Sending {
  SentBatch rows;
  // One byte a row, written by the thread that ends the row, read once the task is done.
  std::vector<uint8_t> reported;
  std::function<void(uint32_t, const Status&)> on_row;
  std::function<void()> on_done;
};

}  // namespace

void send(Store& stage, Direction direction, SentBatch rows,
          std::function<void(uint32_t row, const Status& status)> on_row,
          std::function<void()> on_done) {
  const auto sending = std::make_shared<Sending>();
  sending->rows = std::move(rows);
  sending->reported.resize(sending->rows.keys.size());
  sending->on_row = std::move(on_row);
  sending->on_done = std::move(on_done);
  Batch batch;
  batch.keys = sending->rows.keys;
  batch.addresses = sending->rows.addresses;
  batch.digests = sending->rows.digests;
  batch.on_row = [sending](uint32_t row, const Status& status) {
    sending->reported[row] = 1;
    sending->on_row(row, status);
  };
  const TaskPtr task = direction == Direction::load ? stage.load(batch) : stage.dump(batch);
  task->on_done([sending](Task& done) {
    for (uint32_t row = 0; row < sending->reported.size(); ++row) {
      if (!sending->reported[row]) sending->on_row(row, done.status());
    }
    sending->on_done();
  });
}

}  // namespace ucm
