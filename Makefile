# Everything a developer or CI runs. Each target installs or builds what it needs, nearly all of it with
# cargo alone.

CARGO ?= cargo
STORE ?= .data/run
PURCHASES := examples/bank-account/data/CDNOW_master.txt
BANK := $(CARGO) run --locked --release -q -p bank-account --
FUZZ_SECONDS ?= 30
BENCH_FLAGS ?= --large
SERVICES := sync/services/services
# Distributed mode, each part of which a server has to be there for; those of `sync/services`, unless
# TIDELOG_TEST_SCYLLA and TIDELOG_TEST_KAFKA name others. Without Java it fails if CI=true, and says
# what it leaves out otherwise. It is compiled before, so that no server waits for that. Its tests wait more
# than they work: three at a time, also where there are two processors.
WITH_DISTRIBUTED := $(CARGO) test --locked --no-fail-fast -p tidelog -p tidelog-backends -p bank-account \
	--features bank-account/distributed,tidelog-backends/fakes
OF_DISTRIBUTED := $(WITH_DISTRIBUTED) --lib --test scylla --test kafka --test wire --test served
DISTRIBUTED := RUST_TEST_THREADS=3 $(SERVICES) run -- $(OF_DISTRIBUTED)

# What the tests of the service need beside cargo: Chromium, and schemathesis. Where they cannot be had
# it says what is left out, or fails if CI=true.
BROWSER := examples/bank-account/browser/install
SCHEMATHESIS := examples/bank-account/schemathesis/install target/schemathesis

.PHONY: run serve test tls check bench faults service distributed fuzz clean

# The main job on real data: import the ledger into a fresh store, check the store, show the table.
run:
	rm -rf $(STORE)
	$(BANK) --store $(STORE) import $(PURCHASES)
	$(BANK) --store $(STORE) verify
	$(BANK) --store $(STORE) report

# The same ledger as a service, with a page at http://127.0.0.1:8080.
serve:
	test -e $(STORE) || $(BANK) --store $(STORE) import $(PURCHASES)
	$(BANK) --store $(STORE) serve

# All that a fresh machine can prove.
test:
	$(BROWSER)
	$(SCHEMATHESIS)
	$(CARGO) test --locked --no-fail-fast --workspace --exclude tidelog-benches
	$(CARGO) test --locked -p tidelog-core --features testing
	$(CARGO) test --locked -p tidelog-backends --features failpoints --test faults_injected -- --test-threads 1
	$(CARGO) test --locked -p tidelog-backends --features shuttle --lib models
	$(OF_DISTRIBUTED) --test distributed --no-run
	$(DISTRIBUTED)
	$(WITH_DISTRIBUTED) --test distributed

# TLS and SCRAM to a real Kafka, with an OpenSSL that is built from source for it: some minutes once, and
# perl beside the C compiler.
tls:
	$(CARGO) test --locked -p tidelog --features kafka-tls-vendored --test kafka tls::

# Format, lints, docs and the quick tests; what every commit passes.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --exclude tidelog-benches --all-targets --features tidelog/scylla,tidelog/kafka,tidelog/proptest,tidelog-backends/failpoints -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --exclude tidelog-benches --no-deps --features tidelog/scylla,tidelog/kafka,tidelog/proptest
	$(CARGO) test --locked -p tidelog-core --features testing
	$(CARGO) test --locked -p tidelog-derive
	$(CARGO) test --locked -p tidelog --test property_kit --test guide
	$(CARGO) test --locked -p tidelog-backends --lib --test memory --test sled_smoke

# Side by side with a raw file, tephra, SQLite, redb and fjall, then the parts alone. Prints ratios and
# whether goals are met, writes benches/results.md. BENCH_FLAGS=--quick takes two minutes; the whole
# run takes about half an hour on two cores and wants a machine left alone.
bench:
	$(CARGO) test --locked --release -q -p tidelog-benches --features kafka
	$(CARGO) run --locked --release -p tidelog-benches --features kafka -- $(BENCH_FLAGS)
	$(CARGO) bench --locked -p tidelog-benches -- --warm-up-time 1 --measurement-time 2

# The whole sweeps: kills, power cuts, corruption, failing calls, interleavings; each prints its
# counts and its seed, which TIDELOG_SEED gives again. `make test` runs a bounded part of each.
faults: export TIDELOG_SWEEP = full
faults:
	$(CARGO) test --locked -p tidelog-backends --test kill --test crash --test corruption -- --nocapture
	$(CARGO) test --locked -p tidelog-backends --test opening --test backup --test repair --test repair_again --test golden_stores --test panics
	$(CARGO) test --locked -p tidelog-backends --features failpoints --test faults_injected -- --nocapture --test-threads 1
	$(CARGO) test --locked -p tidelog-backends --features shuttle --lib models -- --nocapture
	$(CARGO) test --locked -p bank-account --test kill --test index_loss -- --nocapture
	$(CARGO) test --locked -p tidelog-cli --test kills -- --nocapture
	$(CARGO) test --locked -p tidelog --test kill -- --nocapture
	$(OF_DISTRIBUTED) --no-run
	$(DISTRIBUTED) -- --nocapture

# The service for longer: deposits for 30 s over a kill, beside what the store does alone, and thousands
# of requests that schemathesis makes up.
service: export TIDELOG_SWEEP = full
service:
	$(BROWSER)
	$(SCHEMATHESIS)
	$(CARGO) test --locked --release -p bank-account --test serve --test schemathesis --test browser -- --nocapture --test-threads 1

# Two tills import the whole ledger, and a bank listens, while all of them, Cassandra and Kafka are
# killed; then all have the same sums, and a till whose disk is gone comes back.
distributed: export TIDELOG_SWEEP = full
distributed:
	$(CARGO) test --locked -p bank-account --features distributed --test distributed -- --nocapture

# Each fuzz target for $(FUZZ_SECONDS) seconds; needs a nightly toolchain and cargo-fuzz. Fails at the
# first finding, which then stands in fuzz/artifacts. What librdkafka is built beside has the sanitizer in
# it: without LDFLAGS its configure takes that for missing.
fuzz: export LDFLAGS = -fsanitize=address
fuzz:
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	@test ! -d /dev/shm || export TMPDIR=/dev/shm; cd fuzz && mkdir -p artifacts && \
	for target in $$($(CARGO) +nightly fuzz list); do \
	    mkdir -p corpus/$$target; log=artifacts/$$target.log; \
	    $(CARGO) +nightly fuzz build $$target || exit 1; \
	    if $(CARGO) +nightly fuzz run $$target corpus/$$target seeds/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -len_control=0 -timeout=20 -print_final_stats=1 >$$log 2>&1; then \
	        sed -n "s/^stat::number_of_executed_units: */$$target: executions: /p" $$log; \
	    else tail -n 60 $$log; echo "$$target: FOUND SOMETHING"; exit 1; fi; done

clean:
	$(CARGO) clean
	rm -rf .data
