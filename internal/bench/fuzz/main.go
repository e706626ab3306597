// Command fuzz sends mutated beacons to a real server, over HTTP and over
// websockets, in all of its protocols, while a good tenant beside them sends
// beacons that must come through. It fails where the server ends, where its
// memory grows past a bound, or where a good beacon is not acknowledged or not
// stored exactly once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are those of one run.
type options struct {
	serin   string // binary
	corpora string // folder ingest of the source, which has the recorded bodies
	n       int64  // mutated beacons
	seed    uint64
	workers int
	growth  int64 // bytes that the server's memory may grow by after its warm-up
	env     []string
}

func main() {
	var o options
	flag.StringVar(&o.serin, "serin", "bin/serin", "the `binary` of Serin")
	flag.StringVar(&o.corpora, "corpora", "ingest", "`folder` of the package ingest, whose testdata is mutated")
	flag.Int64Var(&o.n, "n", 10_000_000, "mutated `beacons`")
	flag.Uint64Var(&o.seed, "seed", 1, "`number` that the mutations follow from")
	flag.IntVar(&o.workers, "workers", 8, "`connections` at once")
	growth := flag.Int64("growth", 128, "`megabytes` that the server's memory may grow by, from its highest in the second tenth of the run to its highest in the last, beside 2 KiB for each session that it knows")
	limit := flag.Duration("limit", 6*time.Hour, "`time` after which it gives up")
	flag.Parse()
	if flag.NArg() > 0 || o.n < 1000 || o.workers < 1 || o.workers > 256 || *growth < 1 {
		fmt.Fprintln(os.Stderr, "fuzz: want flags only, -n of 1000 or more, 1 to 256 -workers and a -growth of 1 or more")
		os.Exit(2)
	}
	o.growth = *growth << 20
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	r, err := run(ctx, &o, os.Stderr)
	if r != nil {
		r.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}
