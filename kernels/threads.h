/* Pieces of work shared out among threads, of which the caller is one. */
#pragma once

#include "ecellm_kernels.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

/* Call a worker for every piece below `pieces` until one gives another status than ECELLM_OK, and return the status
 * of the first such piece, so that what is reported does not depend on the threads' race.
 *
 * Each thread has a worker of its own, which `make_worker` gives. Where the system gives fewer threads than asked for,
 * those there are do the work. */
template <class MakeWorker>
int share_out(size_t pieces, unsigned threads, MakeWorker make_worker) {
    std::atomic<size_t> next{0}, failed{SIZE_MAX};
    std::vector<std::thread> others;
    std::vector<int> statuses;
    const auto run = [&] {
        auto work = make_worker();
        /* A piece before one that failed is still done: it may fail too, and is then the first. */
        for (size_t piece; (piece = next++) < pieces && piece < failed;) {
            const int status = work(piece);
            if (status != ECELLM_OK) {
                statuses[piece] = status;
                size_t first = failed;
                while (piece < first && !failed.compare_exchange_weak(first, piece)) {
                }
            }
        }
    };
    try {
        statuses.resize(pieces, ECELLM_OK);
        others.reserve(threads);
        while (others.size() + 1 < threads && others.size() + 1 < pieces) {
            others.emplace_back(run);
        }
    } catch (const std::bad_alloc &) {
        if (statuses.size() < pieces) {
            return ECELLM_NO_MEMORY;
        }
    } catch (const std::system_error &) {
    }
    run();
    for (std::thread &other : others) {
        other.join();
    }
    return failed == SIZE_MAX ? ECELLM_OK : statuses[failed];
}
