package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/bench/load"
	"serin.dev/serin/internal/bench/process"
)

// server is one that is under load: Serin or a collector.
type server struct {
	*process.Server
	address string
	dir     string // of its data
	settle  time.Duration
	sink    *httptest.Server
	sunk    atomic.Int64 // bodies that a collector has forwarded
}

// How long a server must be quiet to be done. Serin seals every 10 s, as it
// does by itself, and is done when it has: a segment of what was counted is
// counted too.
const (
	sealAfter   = 10 * time.Second
	settleSerin = sealAfter + time.Second
	settleOther = 3 * time.Second
)

// serinConfig has a tenant of its own for each part that is played.
const serinConfig = `listen: %s
data: %s
seal_after: %v
tenants:
  - {id: good, keys: [{key: pk_good}]}
  - {id: second, keys: [{key: pk_second}]}
  - {id: poison, keys: [{key: pk_poison}]}
  - {id: greedy, quota: {events: %g}, keys: [{key: pk_greedy}]}
`

const collectorConfig = `receivers: {otlp: {protocols: {http: {endpoint: "%s"}}}}
exporters: {nop: {}}
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {logs: {receivers: [otlp], exporters: [nop]}}
`

// The queue is the exporter's own, in a file that is synced; what is in it is
// forwarded to a sink that takes everything, without compression, which would
// cost the collector more.
const durableConfig = `receivers: {otlp: {protocols: {http: {endpoint: "%s"}}}}
extensions: {file_storage: {directory: "%s", create_directory: true, fsync: true}}
exporters:
  otlphttp: {endpoint: "%s", compression: none, sending_queue: {enabled: true, storage: file_storage, queue_size: 1000000, block_on_overflow: true}}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {logs: {receivers: [otlp], exporters: [otlphttp]}}
`

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start starts a server: serin, collector or collector-durable. quota is that
// of Serin's tenant greedy, in events per second.
func (b *bench) start(ctx context.Context, kind string, quota float64) (_ *server, err error) {
	s := &server{settle: settleOther}
	if s.dir, err = os.MkdirTemp("", "serin-bench-*"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.stop() // the first error counts
		}
	}()
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "config.yaml")
	program, args, ready := b.collector, []string{"--config", file}, "/"
	var text string
	switch kind {
	case "serin":
		program, args, ready = b.serin, []string{"serve", "--config", file}, "/readyz"
		if b.profiles != "" {
			b.profiled++
			args = append(args, "--cpuprofile", filepath.Join(b.profiles, fmt.Sprintf("%02d.pprof", b.profiled)))
		}
		s.settle = settleSerin
		text = fmt.Sprintf(serinConfig, s.address, filepath.Join(s.dir, "data"), sealAfter, quota)
	case "collector":
		text = fmt.Sprintf(collectorConfig, s.address)
	case "collector-durable":
		s.sink = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				s.sunk.Add(1)
			}
			w.Header().Set("Content-Type", "application/x-protobuf")
		}))
		text = fmt.Sprintf(durableConfig, s.address, filepath.Join(s.dir, "queue"), s.sink.URL)
	default:
		panic("BUG: no server " + kind)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	if s.Server, err = process.Start(process.Options{Cores: b.serverCore}, program, args...); err != nil {
		return nil, err
	}
	for range 600 {
		if s.Ended() {
			break
		}
		// A collector has no page there, and any answer says that it serves.
		if res, err := http.Get("http://" + s.address + ready); err == nil {
			res.Body.Close()
			if kind != "serin" || res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("the server %s does not become ready:\n%s", kind, s.Log())
}

// stop ends the server and removes its data.
func (s *server) stop() error {
	var err error
	if s.Server != nil {
		err = s.Stop()
	}
	if s.sink != nil {
		s.sink.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// metric adds up the server's own metrics whose lines begin with a prefix, of
// all labels that hold each of the parts.
func (s *server) metric(ctx context.Context, name string, parts ...string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	total := 0.
lines:
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(rest, p) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, fmt.Errorf("read metrics: %q: %w", line, err)
		}
		total += v
	}
	return total, nil
}

// stored is how many bytes the files below a folder of the server's data have.
func (s *server) stored(name string) (total int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "data", name), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// sent is the load that is put on a server.
type sent struct {
	key, format string
	rate        float64 // events per second; 0: as fast as it is answered
	connections int
	events      int
	idle        int
	hostile     float64
	duration    time.Duration // 0: that of the options
	blind       bool          // without a look at the server's CPU time
}

// load runs serin load in a process of its own and returns its report.
func (b *bench) load(ctx context.Context, s *server, l sent) (*load.Report, error) {
	if l.connections == 0 {
		l.connections = 64
	}
	if l.events == 0 {
		l.events = 10
	}
	if l.duration == 0 {
		l.duration = b.duration
	}
	args := []string{"-c", b.core, b.serin, "load", "--json", "--target", "http://" + s.address, "--key", l.key, "--format", l.format,
		"--rate", fmt.Sprint(l.rate), "--connections", strconv.Itoa(l.connections), "--events", strconv.Itoa(l.events), "--idle", strconv.Itoa(l.idle),
		"--hostile", fmt.Sprint(l.hostile), "--duration", l.duration.String(), "--warmup", b.warmup.String(), "--settle", s.settle.String()}
	if !l.blind {
		args = append(args, "--pid", strconv.Itoa(s.PID()))
	}
	cmd := exec.CommandContext(ctx, "taskset", args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("serin load: %w\n%s%s", err, errs.String(), s.Log())
	}
	var r load.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read the report of serin load: %w", err)
	}
	if s.Ended() {
		return nil, fmt.Errorf("the server has ended under load:\n%s", s.Log())
	}
	if r.Warning != "" {
		fmt.Fprintf(os.Stderr, "warning: %s: %s\n", l.format, r.Warning)
	}
	return &r, nil
}
