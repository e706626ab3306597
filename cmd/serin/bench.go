package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/load"
)

// benchSettle is how long the server must be quiet for its CPU time to be
// read: longer than the default time between segments, so that sealing is
// counted too.
const benchSettle = 11 * time.Second

// bench measures the whole way on one machine: a server in a process of its
// own, clients that send beacons of 10 events over HTTP, and each beacon
// counted when its acknowledgement is there, which is after the sync. What it
// divides by is the CPU time of the server's process, analysis and segments
// included, so the clients' cost does not count.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	length := fs.Duration("length", 10*time.Second, "`time` that each of the two phases takes")
	clients := fs.Int("clients", 256, "`number` of connections that send at once")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	if *length < time.Second {
		fmt.Fprintf(stderr, "serin bench: length: %v: want 1s or more\n", *length)
		return errUsage
	}
	if *clients < 1 || *clients > 4096 {
		fmt.Fprintf(stderr, "serin bench: clients: %d: want 1 to 4096\n", *clients)
		return errUsage
	}
	dir, err := os.MkdirTemp("", "serin-bench-*")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b, err := startBench(ctx, dir, stderr)
	if err != nil {
		return err
	}
	defer b.stop()

	o := load.Options{Target: "http://" + b.address, Keys: []string{benchKey}, Format: corpus.Native, Connections: *clients, InFlight: 1, Sessions: 512, Events: 10,
		Duration: *length, Settle: benchSettle, Seed: 1, PID: b.server.Process.Pid}
	// Full load: as fast as the acknowledgements come.
	full, err := load.Run(ctx, o)
	if err != nil {
		return fmt.Errorf("full load: %w", err)
	}
	// Half load: at half the rate that full load reached, for the latency that
	// a client meets while nothing is saturated.
	o.Rate = full.AcceptedPerSecond / 2
	half, err := load.Run(ctx, o)
	if err != nil {
		return fmt.Errorf("half load: %w", err)
	}
	if err := b.stop(); err != nil { // which seals what was folded
		return fmt.Errorf("stop the server: %w", err)
	}
	journalBytes, err := size(filepath.Join(dir, "data", "journal"))
	if err != nil {
		return err
	}
	segmentBytes, err := size(filepath.Join(dir, "data", "segments"))
	if err != nil {
		return err
	}
	events := float64(full.Accepted + half.Accepted)
	fmt.Fprintf(stdout, "%s, %d CPUs, %d connections, %d events a beacon, each beacon acknowledged after its sync\n",
		runtime.Version(), runtime.NumCPU(), *clients, o.Events)
	for _, p := range []struct {
		name string
		r    *load.Report
	}{{"full load", full}, {"half load", half}} {
		fmt.Fprintf(stdout, "%s  %9.0f events/s  %9.0f events per CPU-second of the server  p50 %.2f ms  p99 %.2f ms  failed %d\n",
			p.name, p.r.AcceptedPerSecond, p.r.EventsPerCPUSecond, p.r.P50ms, p.r.P99ms, p.r.Failed)
	}
	fmt.Fprintf(stdout, "on disk    %.1f bytes per event in the journal, %.1f in segments\n", float64(journalBytes)/events, float64(segmentBytes)/events)
	if failed := full.Failed + half.Failed; failed > 0 {
		return fmt.Errorf("%d beacons were not acknowledged", failed)
	}
	return nil
}

// benchKey is the key of the benchmark's only tenant.
const benchKey = "pk_bench"

// benchmark is a server under load.
type benchmark struct {
	address string
	server  *exec.Cmd
	once    sync.Once
	stopErr error
}

func startBench(ctx context.Context, dir string, stderr io.Writer) (*benchmark, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	address := l.Addr().String()
	l.Close()
	c, err := yaml.Marshal(map[string]any{"listen": address, "data": filepath.Join(dir, "data"),
		"tenants": []tenantConfig{{ID: "bench", Keys: []keyConfig{{Key: benchKey}}}}})
	if err != nil {
		return nil, fmt.Errorf("make configuration: %w", err)
	}
	file := filepath.Join(dir, "serin.yaml")
	if err := os.WriteFile(file, c, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	b := &benchmark{address: address, server: exec.CommandContext(ctx, self, "serve", "--config", file)}
	b.server.Stderr = &log
	if err := b.server.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	for range 300 {
		if _, err := get(ctx, "http://"+address+"/readyz", ""); err == nil {
			return b, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = b.stop()
	_, _ = stderr.Write(log.Bytes())
	return nil, errors.New("the server did not become ready")
}

func (b *benchmark) stop() error {
	b.once.Do(func() {
		_ = b.server.Process.Signal(os.Interrupt) // fails only where it has ended
		b.stopErr = b.server.Wait()
	})
	return b.stopErr
}

// size sums the files below a folder, in bytes.
func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
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
