package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVerdictTimeIsUp: a hold that stands when the time to wait is over is an answer,
// not a failure.
func TestVerdictTimeIsUp(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	createRollout(t, s)
	status, stdout, stderr := runCommand(t, "verdict", "--server", s.url(), "--token", ownToken, "--wait", "--timeout", "1500ms", "r1")
	if status != 10 || !strings.HasPrefix(stdout, "hold\n") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

// TestSecondSignalEnds: a command that waits for its standard input can be ended.
func TestSecondSignalEnds(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "decode", "native")
	c.Env = append(os.Environ(), beSerin+"=1")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: once it is written the command reads, and heeds signals.
	if _, err := in.Write(bytes.Repeat([]byte(" "), 256<<10)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for range 100 {
		_ = c.Process.Signal(os.Interrupt) // fails only where it has ended
		select {
		case <-ended:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Error("it reads on after 100 interrupts")
	in.Close()
	<-ended
}

// TestStarterIsRead: what stands in DATA/serin.yaml counts, and flags go before it.
func TestStarterIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "serin.yaml"), []byte("listen: 127.0.0.1:99999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for want, args := range map[string][]string{"99999": nil, "99998": {"--listen", "127.0.0.1:99998"}} {
		var out, errs bytes.Buffer
		if status := run(ctx, append([]string{"serve", "--data", dir}, args...), &out, &errs); status != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: status %d: %s", args, status, errs.String())
		}
	}
}

// TestListsAreNeverNull: what has nothing to list lists nothing.
func TestListsAreNeverNull(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	for _, list := range []string{"rollouts", "releases", "documents", "documents/changes", "slos", "alerts", "silences", "deliveries"} {
		if raw, err := get(t.Context(), s.url()+"/v1/"+list, ownToken); err != nil || !strings.Contains(string(raw), "[]") {
			t.Errorf("%s: %s %v", list, raw, err)
		}
	}
	createRollout(t, s)
	raw, err := get(t.Context(), s.url()+"/v1/rollouts/r1/evidence", ownToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"history", "strata", "places", "trace", "cells"} {
		if strings.Contains(string(raw), `"`+list+`":null`) {
			t.Errorf("%s of what was not seen yet is null", list)
		}
	}
}

// TestFaultsAreOfWhatWasAsked: an objective that is not there is no rollout, and a file is
// not told Go's types.
func TestFaultsAreOfWhatWasAsked(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	status, _, stderr := runCommand(t, "slo", "who", "--server", s.url(), "--token", ownToken, "absent")
	if status != 1 || !strings.Contains(stderr, `404: objective "absent": no such objective`) {
		t.Errorf("status %d: %s", status, stderr)
	}
	for want, args := range map[string][]string{`silence "absent": no such silence`: {"silence", "end", "absent"}, `message "absent": no such message`: {"deliveries", "replay", "absent"}} {
		if status, _, stderr := runCommand(t, append(args, "--server", s.url(), "--token", ownToken)...); status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
	path := filepath.Join(t.TempDir(), "part.yaml")
	for text, want := range map[string]string{"guardrails: {error_free: {}}": "field guardrails not found", "journal: x": "cannot unmarshal !!str `x`"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, _, stderr := runCommand(t, "check", path); status != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "begins with its kind") || strings.Contains(stderr, "main.") {
			t.Errorf("status %d: %s", status, stderr)
		}
	}
}

// TestCheckOfBrokenFiles: among several files, what is no YAML is told as that, with its
// line, together with the faults of the others.
func TestCheckOfBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tab.yaml":   "kind: policy\nname: a\nguardrails:\n\terror_free: {margin: 0.5}\n",
		"two.yaml":   "kind: policy\nname: b\n---\nkind: policy\nname: c\n",
		"alpha.yaml": "kind: policy\nname: d\nalpha: 2\n",
		"empty.yaml": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, _, stderr := runCommand(t, "check", dir)
	for _, want := range []string{"tab.yaml: yaml: line 4: found character", "two.yaml: line 4: a second document", "alpha.yaml:3: alpha: 2", `empty.yaml: kind: "": want policy, rollout`} {
		if status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("status %d, no %q in\n%s", status, want, stderr)
		}
	}
}
