package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build makes the server's binary.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "serin")
	if out, err := exec.Command("go", "build", "-o", bin, "serin.dev/serin/cmd/serin").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	return bin
}

// TestMutatedBeaconsCostOthersNothing is the short form of make fuzz-long.
func TestMutatedBeaconsCostOthersNothing(t *testing.T) {
	o := options{serin: build(t), corpora: "../../../ingest", n: 10_000, seed: 20261124, workers: 4, growth: 256 << 20}
	r, err := run(t.Context(), &o, t.Output())
	if r != nil {
		var text bytes.Buffer
		r.print(&text)
		t.Log(text.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		if r.bad.sent[s.protocol] == 0 {
			t.Errorf("nothing was sent of %s", s.protocol)
		}
	}
	// Mutations that are all refused at their first byte test little.
	if n := r.bad.statuses["native 202"]; n < o.n/100 {
		t.Errorf("only %d mutated beacons were taken", n)
	}
	if n := r.bad.statuses["native 400"]; n < o.n/100 {
		t.Errorf("only %d mutated beacons were refused", n)
	}
}

// TestJudgeFindsFaults has the run look for what a broken server would do.
func TestJudgeFindsFaults(t *testing.T) {
	dir := t.TempDir()
	server := filepath.Join(dir, "serin")
	o := options{serin: server, corpora: "../../../ingest", n: 1000, seed: 1, workers: 1, growth: 1 << 30}
	if _, err := run(t.Context(), &o, t.Output()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a server: %v", err)
	}
	o.serin = "/bin/false"
	if _, err := run(t.Context(), &o, t.Output()); err == nil || !strings.Contains(err.Error(), "does not become ready") {
		t.Errorf("with a server that ends: %v", err)
	}
	o.corpora = dir
	if _, err := run(t.Context(), &o, t.Output()); err == nil || !strings.Contains(err.Error(), "no recorded requests") {
		t.Errorf("without recorded requests: %v", err)
	}
}
