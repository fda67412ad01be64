// SPDX-License-Identifier: Apache-2.0
// A program that embeds skink: opens an engine on two directories of its own and tells what is in it.
#include <skink/engine.h>

#include <cstdio>

int main(int argc, char** argv) {
  // First of all: the engine starts this very program again to play its supervisor.
  if (const auto status = skink::run_internal_role(argc, argv)) return *status;
  if (argc != 3) return 2;
  auto engine = skink::Engine::open({.store = argv[1], .run = argv[2]});
  if (!engine) {
    std::fprintf(stderr, "embedder: %s\n", engine.error().text().c_str());
    return 1;
  }
  const auto containers = engine->list();
  const auto images = engine->images().list();
  if (!containers || !images) return 1;
  std::printf("%zu containers, %zu images\n", containers->size(), images->size());
  return 0;
}
