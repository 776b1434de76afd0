/* Shares pieces of work among threads, including the caller's. */
#pragma once

#include "ecellm_kernels.h"

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <vector>

/* Process all `pieces` with one worker per thread until a piece fails. Return the status of the failed piece with the
 * lowest number, which does not depend on how the threads race.
 *
 * A Worker is constructed from `plan`. Its `bool ready() const` says whether it got its memory, and its
 * `int operator()(size_t piece)` returns a status. If the system grants fewer threads or less memory, the existing
 * workers do the work. If there are none, the status is ECELLM_NO_MEMORY. */
template <class Worker, class Plan>
int share_out(const Plan &plan, size_t pieces, unsigned threads) {
    std::atomic<size_t> next{0}, failed{SIZE_MAX};
    std::vector<std::thread> others;
    const std::unique_ptr<int[]> statuses(new (std::nothrow) int[pieces]());
    if (!statuses) {
        return ECELLM_NO_MEMORY;
    }
    const auto run = [&] {
        Worker work(plan);
        if (!work.ready()) {
            return;
        }
        /* A piece before a failed one is still processed: it may fail too, and is then the first. */
        for (size_t piece; (piece = next++) < pieces && piece < failed;) {
            statuses[piece] = work(piece);
            if (statuses[piece] != ECELLM_OK) {
                size_t first = failed;
                while (piece < first && !failed.compare_exchange_weak(first, piece)) {
                }
            }
        }
    };
    try {
        const size_t workers = threads < pieces ? threads : pieces;
        others.reserve(workers);
        while (others.size() + 1 < workers) {
            others.emplace_back(run);
        }
    } catch (const std::exception &) { /* no more threads, or no memory */
    }
    run();
    for (std::thread &other : others) {
        other.join();
    }
    if (failed != SIZE_MAX) {
        return statuses[failed];
    }
    return next < pieces ? ECELLM_NO_MEMORY : ECELLM_OK;
}
