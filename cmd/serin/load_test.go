package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/load"
)

// TestLoadInEveryFormat loads a server in a process of its own, tasters
// included: it takes all of every format, and its own count is that of the
// answers.
func TestLoadInEveryFormat(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	c := testConfig(filepath.Join(dir, "data"))
	text, err := yaml.Marshal(map[string]any{"listen": address, "data": c.Data, "tenants": c.Tenants})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "serin.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// By its name the test's binary is the command, and its tasters are too.
	server := &exec.Cmd{Path: self, Args: []string{"serin", "serve", "--config", file}}
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt) // fails only where it has ended
		if err := server.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, log.String())
		}
	}()
	url := "http://" + address
	for i := 0; ; i++ {
		if _, err := get(t.Context(), url+"/readyz", ""); err == nil {
			break
		}
		if i == 400 {
			t.Fatalf("the server does not become ready:\n%s", log.String())
		}
		time.Sleep(25 * time.Millisecond)
	}
	accepted := int64(0)
	for _, f := range corpus.Formats {
		status, stdout, stderr := runCommand(t, "load", "--target", url, "--key", ownKey+","+foreignKey, "--format", string(f), "--connections", "4", "--sessions", "32",
			"--batch", "30", "--duration", "250ms", "--warmup", "0s", "--idle", "5", "--settle", "0s", "--pid", strconv.Itoa(server.Process.Pid), "--json")
		if status != 0 {
			t.Fatalf("%s: exit status %d\n%s", f, status, stderr)
		}
		var r load.Report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%s: %v\n%s", f, err, stdout)
		}
		if r.Events == 0 || r.Accepted+r.Shed != r.Events || r.Failed > 0 || r.Idle != 5 || r.Warning != "" || r.PeakRSSBytes < 1<<20 {
			t.Errorf("%s: %s", f, stdout)
		}
		accepted += r.Accepted
	}
	page, err := get(t.Context(), url+"/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nserin_ingest_accepted_events_total " + strconv.FormatInt(accepted, 10) + "\n"; !strings.Contains(string(page), want) {
		t.Errorf("the server does not count%sby its answers", want)
	}
	status, stdout, _ := runCommand(t, "load", "--target", url, "--key", "pk_unknown", "--duration", "50ms", "--warmup", "0s")
	if status != 0 || !strings.Contains(stdout, "401 x") || !strings.Contains(stdout, "0 accepted") {
		t.Errorf("with an unknown key: exit status %d\n%s", status, stdout)
	}
}
