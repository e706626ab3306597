# What a new user types: make demo, then make test.

BIN := bin/serin
SDK := sdk-js/dist/serin.js
GO_FILES := $(shell find cmd ingest analysis alerting internal -name '*.go' -not -name '*_test.go') internal/api/page.html $(wildcard cmd/serin/default.pgo) go.mod go.sum
FOREIGN := sdk-js/e2e/foreign/node_modules/.package-lock.json
SDK_FILES := $(shell find sdk-js/src -name '*.ts') sdk-js/scripts/build.mjs sdk-js/package-lock.json

.PHONY: help demo run test test-go test-sdk test-e2e interop bench bench-ingest profile fuzz fuzz-long golden captures lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(BIN) ## the whole way on this machine: a broken canary is found and rolled back
	$(BIN) demo

run: $(BIN) $(SDK) ## a server with an empty configuration; prints the snippet for a page
	$(BIN) serve --sdk $(SDK)

test: lint test-go test-sdk test-e2e ## all tests: Go with the race detector, the SDK, and a real browser

test-go:
	go test -race -pgo=off -timeout 10m ./...

test-sdk: sdk-js/node_modules/.package-lock.json
	cd sdk-js && npm run typecheck && npm test && npm run size

test-e2e: $(BIN) $(SDK) $(FOREIGN)
	cd sdk-js && SERIN_BIN=$(CURDIR)/$(BIN) npm run e2e

interop: $(BIN) internal/interop/openfeature/node_modules/.package-lock.json ## delivery tools' own code against a built server: Argo Rollouts, Flagger, OpenFeature, CloudEvents, Alertmanager, PagerDuty
	cd internal/interop && go vet ./... && SERIN_BIN=$(CURDIR)/$(BIN) go test -timeout 10m ./...
	cd internal/interop/openfeature && SERIN_BIN=$(CURDIR)/$(BIN) npm test

internal/interop/openfeature/node_modules/.package-lock.json: internal/interop/openfeature/package-lock.json
	cd internal/interop/openfeature && npm ci --no-audit --no-fund

lint: ## formatting and go vet
	@unformatted=$$(gofmt -l cmd ingest analysis alerting internal); \
	if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted" >&2; exit 1; fi
	go vet -pgo=off ./...

bench: $(BIN) ## events per CPU-second end to end, latency of the acknowledgement, bytes per event
	$(BIN) bench

bench-ingest: $(BIN) bin/collector ## the edge beside an OpenTelemetry Collector, in one run: BENCH_FLAGS=-quick for a short one
	go run ./internal/bench/ingest $(BENCH_FLAGS)

profile: $(BIN) ## measure anew what the compiler optimises Serin for: cmd/serin/default.pgo
	rm -rf bin/profiles
	go run ./internal/bench/ingest -only throughput -rounds 1 -profiles bin/profiles
	go tool pprof -proto -output bin/profiles/merged bin/profiles/*.pprof
	go run ./internal/bench/pgo bin/profiles/merged cmd/serin/default.pgo

bin/collector: $(wildcard internal/bench/collector/*.go) internal/bench/collector/go.mod internal/bench/collector/go.sum
	cd internal/bench/collector && go build -o $(CURDIR)/$@ .

fuzz-long: $(BIN) ## ten million mutated beacons against a server, with good ones beside them: FUZZ_FLAGS='-n 100000' for fewer
	go run ./internal/bench/fuzz $(FUZZ_FLAGS)

fuzz: ## each fuzz target for 20 s
	go test -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime 20s -fuzzminimizetime 50x ./ingest/beacon
	for f in Faro Sentry OTLP Reports Elastic Datadog StreamMessage; do go test -run '^$$' -fuzz "^Fuzz$$f$$" -fuzztime 20s -fuzzminimizetime 50x ./ingest || exit 1; done
	go test -run '^$$' -fuzz '^FuzzHead$$' -fuzztime 20s -fuzzminimizetime 50x ./ingest/lane
	for f in Scrub Forwarded; do go test -run '^$$' -fuzz "^Fuzz$$f$$" -fuzztime 20s -fuzzminimizetime 50x ./ingest/admit || exit 1; done
	go test -run '^$$' -fuzz '^FuzzRestore$$' -fuzztime 20s -fuzzminimizetime 50x ./alerting/alert
	go test -run '^$$' -fuzz '^FuzzReadGroup$$' -fuzztime 20s -fuzzminimizetime 50x ./internal/store/batch
	go test -run '^$$' -fuzz '^FuzzHLLUnmarshal$$' -fuzztime 20s -fuzzminimizetime 50x ./analysis/sketch
	go test -run '^$$' -fuzz '^FuzzHistogramUnmarshal$$' -fuzztime 20s -fuzzminimizetime 50x ./analysis/sketch

golden: sdk-js/node_modules/.package-lock.json ## write the recordings of the wire format anew
	cd sdk-js && npm run golden
	go test ./ingest/beacon -run '^(TestRefusals|TestRejections)$$' -update

captures: $(BIN) $(FOREIGN) ## record anew what the SDKs of others send
	cd sdk-js && SERIN_BIN=$(CURDIR)/$(BIN) SERIN_CAPTURES=$(CURDIR)/ingest/testdata/captures node --test e2e/foreign.test.mjs
	go test ./ingest -run '^TestCaptures$$' -update

clean: ## remove what was built
	rm -rf bin sdk-js/dist sdk-js/node_modules sdk-js/e2e/foreign/node_modules internal/interop/openfeature/node_modules

$(BIN): $(GO_FILES)
	go build -o $@ ./cmd/serin

$(SDK): $(SDK_FILES) sdk-js/node_modules/.package-lock.json
	cd sdk-js && npm run build

sdk-js/node_modules/.package-lock.json: sdk-js/package-lock.json
	cd sdk-js && npm ci --no-audit --no-fund

$(FOREIGN): sdk-js/e2e/foreign/package-lock.json
	cd sdk-js/e2e/foreign && npm ci --no-audit --no-fund
