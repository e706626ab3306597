// Command ingest measures the edge beside its peers, in one run: each server
// alone on one core, the load on another, one after the other and again in
// another order, and prints Markdown. Ratios of one run are what it is for;
// absolute numbers are those of the machine.
//
// It ends by itself within -limit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// options are those of one comparison.
type options struct {
	serin, collector string // binaries
	serverCore, core string // cores of the server and of the load, as taskset takes them
	rounds           int
	duration, warmup time.Duration
	idle             int
	only             *regexp.Regexp
	profiles         string // folder for CPU profiles of Serin, which is measured alone then
}

func main() {
	var o options
	flag.StringVar(&o.serin, "serin", "bin/serin", "the `binary` of Serin")
	flag.StringVar(&o.collector, "collector", "bin/collector", "the `binary` of the OpenTelemetry Collector that internal/bench/collector builds")
	flag.StringVar(&o.serverCore, "server-core", "1", "`core` of the server that is measured, as taskset takes it")
	flag.StringVar(&o.core, "load-core", "0", "`core` of the load")
	flag.IntVar(&o.idle, "idle", 20_000, "`websockets` that are open beside the load, where this process may open as many")
	flag.IntVar(&o.rounds, "rounds", 3, "`times` that each server is measured, the medians count")
	flag.DurationVar(&o.duration, "duration", 8*time.Second, "`time` of each load that is measured")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "`time` of each load before it")
	quick := flag.Bool("quick", false, "one round of short loads, to see that it works: the numbers say little")
	limit := flag.Duration("limit", 40*time.Minute, "`time` after which it gives up")
	flag.StringVar(&o.profiles, "profiles", "", "`folder` for CPU profiles of Serin under each load of throughput; its peers are left out")
	only := flag.String("only", "", "`pattern` of the sections to measure: throughput, latency, isolation, overload; all where empty")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.rounds > 100 || o.duration < time.Second || o.duration > time.Hour || o.warmup < 0 || o.warmup > time.Minute || o.idle < 0 {
		fmt.Fprintln(os.Stderr, "ingest: want flags only, 1 to 100 -rounds, a -duration of 1s to 1h, a -warmup of at most 1m and 0 or more -idle")
		os.Exit(2)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "ingest: -only:", err)
		os.Exit(2)
	}
	if *quick {
		o.rounds, o.duration, o.warmup = 1, 2*time.Second, 500*time.Millisecond
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if err := compare(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, o *options) error {
	programs := []string{o.serin}
	if o.profiles == "" {
		programs = append(programs, o.collector)
	} else if err := os.MkdirAll(o.profiles, 0o755); err != nil {
		return fmt.Errorf("make a folder for profiles: %w", err)
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("find the binaries (make bench-ingest builds them): %w", err)
		}
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return fmt.Errorf("pin the servers: %w", err)
	}
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown") // a source tree without its history
	}
	fmt.Printf("Commit %s, %s, %s, %d CPUs; the server on one core, the load on another; %d rounds of %v.\n",
		strings.TrimSpace(string(commit)), runtime.Version(), cpuModel(), runtime.NumCPU(), o.rounds, o.duration)
	b := &bench{options: o}
	for _, section := range []struct {
		name string
		run  func(context.Context) error
	}{{"throughput", b.throughput}, {"latency", b.latency}, {"isolation", b.isolation}, {"overload", b.overload}} {
		if !o.only.MatchString(section.name) {
			continue
		}
		if err := section.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
	}
	return nil
}

// cpuModel names the processor, where the system does.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
