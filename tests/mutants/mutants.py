#!/usr/bin/env python3
"""Changes the code in one place after the other, and sees that some test fails each time.

    tests/mutants/mutants.py [NUMBER]...

Works on a copy of the tree as it is committed, in build/mutants; prints a line a mutant:
caught and by what, or SURVIVED. Exits 1 where one survived, or where its place is not there any
more. A mutant that survives is a test that is missing: write it, or take the mutant out with the
reason why nothing could tell the difference. Takes a quarter of an hour.
"""
import argparse
import pathlib
import re
import resource
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
COPY = TOP / "build/mutants"
MEMORY = 8 << 30  # bytes that a test's program may have

# (file, what stands there once, what stands there instead, tests to run: a pattern for ctest)
MUTANTS = [
    ("lib/base/wire.c", "if (len > (uint64_t)(wire->end - wire->at))", "if (0)",
     "unit/test_(wire|tree|bots_sync|plan)$"),
    ("lib/base/wire.c", "if (key >> 3 == 0 ||", "if (", "unit/test_(wire|tree)$"),
    ("lib/base/arena.c", "if (need > arena->cap - arena->total)\n\t\treturn NULL;", "",
     "unit/test_(base|plan)$"),
    ("lib/base/arena.c", "if (__builtin_mul_overflow(n, size, &total)) {",
     "total = n * size;\n\tif (0) {", "unit/test_base$"),
    ("lib/base/units.c", "|| value < min ||", "||", "unit/test_base$"),
    ("lib/base/config.c", "option_list_deinit(def->value);", "", "unit/test_base$"),
    ("lib/tree/digest.c", "if (text.len > 1 && text.data[0] == '0')", "if (0)",
     "unit/test_digest$"),
    ("lib/tree/digest.c", "return a->size == b->size && memcmp", "return memcmp",
     "unit/test_(digest|store|import)$"),
    ("lib/tree/tree.c", 'slice_is(name, ".") || slice_is(name, "..")', 'slice_is(name, ".")',
     "unit/test_tree$"),
    ("lib/tree/tree.c", "else if (memchr(name.data, '/', name.len))", "else if (0)",
     "unit/test_tree$"),
    ("lib/rpc/retry.c", "case ERROR_ABORTED:\n\tcase ERROR_UNKNOWN:\n\tcase ERROR_DEADLINE_EXCEEDED:\n\t\treturn true;",
     "case ERROR_UNKNOWN:\n\tcase ERROR_DEADLINE_EXCEEDED:\n\t\treturn true;\n\tcase ERROR_ABORTED:", "unit/test_rpc_pure$"),
    ("lib/rpc/retry.c", "if (attempt + 1 >= max_attempts ||", "if (attempt >= max_attempts ||",
     "unit/test_(rpc_pure|remote)$"),
    ("lib/rpc/retry.c", "asked < RETRY_ASKED_MAX ? asked : RETRY_ASKED_MAX", "asked",
     "unit/test_rpc_pure$"),
    ("lib/rpc/status.c", "\tif (ms < 0)\n\t\tms = 0;\n", "", "unit/test_rpc_pure$"),
    # not: a peer's share of the pieces that are under way, since the bound of all peers together
    # holds the memory, too, and what is left of it is fairness: tests/bench/bench_fair.py
    ("lib/rpc/count.c", "return COUNT_OVER;", "return COUNT_FITS;",
     "unit/test_rpc_pure$"),
    ("lib/store/store_evict.c", "!digest_equal(&victim, keep)", "true",
     "unit/test_store$|attack/test_attack_uploads"),
    ("lib/store/store_entry.c", "list_push(&store->lru", "list_insert_before(store->lru.next",
     "unit/test_store$"),
    ("worker/source/buildbarn_sync.c", "sync->wants_cancel = true;", "",
     "unit/test_buildbarn_sync$"),
    ("worker/source/buildbarn_sync.c", "BUILDBARN_COMPLETED && !sync->has_failed)",
     "BUILDBARN_COMPLETED)", "unit/test_buildbarn_sync$"),
    ("worker/source/source_buildbarn.c", "if (news == BUILDBARN_CHANGE ||",
     "if (1 || news == BUILDBARN_CHANGE ||", "attack/test_attack_buildbarn"),
    ("worker/source/source_buildbarn.c", "slot->news_ns = news_ns;", "(void)news_ns;",
     "system/test_buildbarn$"),
    ("worker/action/job_cache.c", "if (err || is_same)\n\t\treturn err;",
     "if (err || is_same || plan)\n\t\treturn err;", "system/test_buildbarn$"),
    ("worker/action/job_cache.c", "if (!is_same)\n\t\terr = job_cache_compare",
     "if (!is_same && !plan)\n\t\terr = job_cache_compare", "system/test_buildbarn$"),
    ("server/resource_name.c", "if (!name.is_upload && cursor.at)", "if (0)",
     "unit/test_resource_name$"),
    ("server/queue_match.c", 'strcmp(has->list[i].value, "*") == 0', "0",
     "unit/test_queue|integration/test_server_patience"),
    ("server/queue_match.c", "if (!match_one(has, &required->list[i]))\n\t\t\treturn false;",
     "(void)match_one(has, &required->list[i]);",
     "unit/test_queue$"),
    ("server/queue_client.c", "client->n_live >= QUEUE_CLIENT_OPERATIONS", "0",
     "unit/test_queue_shares$"),
    ("worker/slots.c", "sites_get(slots->sites, lease->instance, site_out)",
     'sites_get(slots->sites, "", site_out)', "integration/test_worker_source$"),
    ("worker/slots.c", "[JOB_STAGING] = -1", "[JOB_STAGING] = SOURCE_FETCHING",
     "integration/test_worker_source$"),
    ("worker/sites.c", "if (sites->n == sites->n_max)", "if (sites->n == SITES_MAX)",
     "integration/test_worker_sites$"),
    ("lib/rpc/rpc.c", "err = rpc_try_threads();", "err = NULL;\n\t(void)rpc_try_threads;",
     "unit/test_rpc_pure$"),
    ("lib/base/zstd.c", "(size_t)left + 1 : ZSTD_PIECE", "(size_t)left : ZSTD_PIECE",
     "unit/test_zstd$"),
    ("lib/base/zstd.c", "ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG", "ZSTD_d_windowLogMax, 30",
     "unit/test_zstd$"),
    ("lib/base/zstd.c", "if (decoder->is_within || decoder->has_more)", "if (0)",
     "unit/test_zstd$"),
    ("lib/cas/remote.c", "|| size > batch->plain_left)", "|| size > RPC_MESSAGE_MAX)",
     "unit/test_remote_zstd$"),
    ("server/uploads.c", "uploads->memory > UPLOADS_MEMORY_MAX", "0", "attack/test_attack_zstd"),
    ("server/uploads.c", "if (client->n >= UPLOADS_CLIENT_MAX) {", "if (0) {",
     "attack/test_attack_uploads"),
    ("server/uploads.c", "(client->promised > 0 && client->promised + upload->size > limit / 2) ||",
     "", "attack/test_attack_uploads|integration/test_server_bytestream"),
    # not: the bound of a million entries, which no test reaches
    ("lib/cas/action_cache.c", "if (!err && cache->n_unseen > cache->max_bytes / 64)", "if (0)",
     "unit/test_action_cache$"),
    ("worker/action/plan.c", "if (n == 2 && at[0] == '.' && at[1] == '.') {\n\t\t\tif (!len)",
     "if (n == 2 && at[0] == '.' && at[1] == '.') {\n\t\t\tif (0)", "unit/test_plan$"),
    ("worker/action/plan.c", "if (*path == '/')", "if (0)", "unit/test_plan$"),
    ("worker/action/job.c", "if (error_n_missing(lost))\n", "if (0)\n",
     "integration/test_worker_faults$"),
    ("worker/action/job.c", "(clock_mono_ns() - run->start_ns - waited)",
     "(clock_mono_ns() - run->start_ns)", "integration/test_worker_faults$|system/test_faults"),
    ("worker/source/source_bots.c", "!(may_cancel && (bots->sync.has_news || bots->is_stopping))",
     "1", "integration/test_worker_bots$"),
    ("worker/sandbox/allow.c", "if (request->with_network && !allow_has(allow, ALLOW_NETWORK))",
     "if (0)", "system/test_allow|unit/test_limits"),
    ("fuse/capture_upper.c", "S_ISCHR", "S_ISBLK", "integration/test_capture$"),
    ("client/output_places.c", "\t\t\treturn true;", "\t\t\treturn false;",
     "system/test_times"),
    ("predict/resolve.c", "++walk->n_links > RESOLVE_LINKS_MAX", "++walk->n_links > 1000",
     "unit/test_resolve$"),
    ("predict/resolve.c", "walk->at < sizeof(walk->rest) || !resolve_append",
     "!resolve_append", "unit/test_resolve$"),
    ("predict/profile.c", "if (!profile_is_distinct(&profile))", "if (0 && !profile_is_distinct(&profile))",
     "unit/test_profile$"),
    ("predict/profile.c", "if (paths_len > PROFILE_PATHS_MAX)", "if (0)",
     "unit/test_profile$"),
    ("predict/profile.c", "!(uint8_t)(old->seen << 1))", "!old->seen)",
     "unit/test_profile$"),
    ("predict/profile_key.c", "if (at < word || at + text.len != end)\n\t\treturn;", "(void)end;",
     "unit/test_profile$"),
    ("predict/foresight_walk.c", "\t\tahead++;\n", "\t\t(void)link;\n",
     "unit/test_foresight_order$"),
    ("predict/foresight.c", "\t\tn_passed++;\n", "", "unit/test_foresight_order$"),
    ("predict/foresight.c", "foresight->n_opened[source] * 10 < foresight->n_asked[source]",
     "false", "unit/test_foresight_order$"),
    ("predict/foresight_hint.c", "arena_reset(&foresight->scratch);", "(void)0;",
     "unit/test_foresight$"),
    ("predict/foresight_place.c", "is_beside ? (int)own : 0", "0", "unit/test_foresight$"),
    ("predict/foresight_compiler.c", "compiler->has_stdinc = false;", ";",
     "unit/test_foresight$"),
    ("worker/action/foresee.c", "if (room.size_max > job->budget)", "if (0)",
     "system/test_foresight$"),
    # not: that the wishes of a job that ends are cancelled, since what is granted at once fits the
    # way, and what waits of it is a few files
    ("lib/cas/fetch.c", "waiter->done || waiter->owner != cancel->owner", "waiter->done",
     "unit/test_fetch$"),
    ("predict/foresight_walk.c", "i < WALKS_MAX && walks->is_filling", "i < WALKS_MAX",
     "unit/test_foresight_order$"),
    ("predict/foresight_file.c", "probability > file->probability;",
     "probability > file->probability + 1;",
     "unit/test_foresight_order$"),
    ("worker/action/foresee.c", "profile_merge(&profiles[i], reads, n);", "(void)reads;",
     "system/test_foresight$"),
    ("worker/action/profile_share.c", "may = profile_share_may(share, errand);",
     "may = true;", "system/test_foresight$"),
    ("server/access.c", "if (wanted & ACCESS_OPEN)", "if (0)", "unit/test_access$"),
    ("server/asset.c", "is_whole = asset_has_blobs(fetch);", "(void)asset_has_blobs(fetch);",
     "attack/test_attack_assets"),
    ("server/asset.c", "return server_has(server, digest);",
     "return server_has(server, digest) || digest->size >= 0;", "attack/test_attack_assets"),
    ("server/asset.c", "if (fetch->asset.pushed_ns < fetch->oldest_ns)",
     "if (fetch->asset.pushed_ns < 0)", "attack/test_attack_assets"),
    ("server/asset.c", "qsort(sorted, ask->n_qualifiers, sizeof(sorted[0]), asset_compare);",
     "(void)asset_compare;", "attack/test_attack_assets"),
    ("server/asset_cache.c", "if (asset_is_again(names, i))", "if (asset_is_again(names, 0))",
     "attack/test_attack_assets"),
    ("server/asset_cache.c", "AND expires>?2", "AND ?2>=0", "unit/test_asset_cache$"),
    ("server/logstreams.c", "else if (offset != stream->size)", "else if (offset < 0)",
     "attack/test_attack_logs"),
    ("server/logstreams.c", "list_push(&streams->ended, &stream->link);\n\tlogstreams_wake(stream);",
     "list_push(&streams->ended, &stream->link);", "integration/test_server_services$"),
    ("server/health.c", "rpc_wake(container_of(it, struct health_watch, link)->in);",
     "(void)it;", "attack/test_attack_health"),
    ("server/operations_filter.c", "out->stages &=", "out->stages |=", "unit/test_operations$"),
    ("server/queue.c", "operation->serial <= after", "operation->serial == after", "unit/test_queue$"),
    ("server/reflection.c", "slice_is(field.bytes, REFLECTION_OWN)", "false",
     "attack/test_attack_reflection"),
]


def run(*words, **kwargs):
    return subprocess.run(words, cwd=COPY, capture_output=True, text=True, **kwargs)


def limit():
    """A mutant may eat all memory that there is."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def build():
    return run("cmake", "--build", "build/release").returncode == 0


def prepare():
    if not (COPY / ".git").exists():
        COPY.parent.mkdir(exist_ok=True)
        shutil.rmtree(COPY, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(TOP), str(COPY)], check=True)
    run("git", "fetch", "-q", "origin", check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, capture_output=True, text=True,
                          check=True).stdout.strip()
    run("git", "checkout", "-q", "-f", head, check=True)
    run("cmake", "--preset", "release", check=True)
    if not build():
        sys.exit("mutants: the tree does not build")


def try_mutant(number, mutant):
    """What became of it, as a line; True where it was caught."""
    name, old, new, tests = mutant
    path = COPY / name
    text = path.read_text()
    first = old.split("\n")[0].strip()
    if old not in text:
        return f"{number:3} {name}: \"{first}\" does not stand there any more", False
    path.write_text(text.replace(old, new, 1))
    try:
        if not build():
            return f"{number:3} {name}: \"{first}\": the compiler caught it", True
        result = run("ctest", "--preset", "release", "-R", tests, "--stop-on-failure",
                     "--timeout", "180", preexec_fn=limit)
        failed = re.findall(r"- (\S+) \((?:Failed|Timeout)", result.stdout)
        if "No tests were found" in result.stdout + result.stderr:
            return f"{number:3} {name}: no test is called {tests}", False
        return (f"{number:3} {name}: \"{first}\": " +
                (f"caught by {failed[0]}" if failed else f"SURVIVED {tests}"), bool(failed))
    finally:
        path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", type=int,
                        help=f"which mutants: 1 to {len(MUTANTS)}")
    wanted = parser.parse_args().numbers or range(1, len(MUTANTS) + 1)
    for number in wanted:
        if not 1 <= number <= len(MUTANTS):
            parser.error(f"there is no mutant {number}")
    prepare()
    n_caught = 0
    for number in wanted:
        line, is_caught = try_mutant(number, MUTANTS[number - 1])
        print(line, flush=True)
        n_caught += is_caught
    print(f"{n_caught} of {len(wanted)} mutants were caught")
    return 0 if n_caught == len(wanted) else 1


sys.exit(main())
