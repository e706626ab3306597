package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/load"
)

// loadCommand sends realistic beacons to a running server and prints how they
// were answered, and what that cost the server.
func loadCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	var o load.Options
	var format, keys string
	fs.StringVar(&o.Target, "target", "", "`URL` of the server, http://HOST:PORT; required")
	fs.BoolVar(&o.Remote, "remote", false, "the target may be another machine than this one, which is meant to be loaded")
	fs.StringVar(&keys, "key", "", "public `key`, or several of as many tenants, parted by commas: connections take them in turn; required")
	fs.StringVar(&format, "format", string(corpus.Native), fmt.Sprintf("`format` of the bodies, one of %v", corpus.Formats))
	fs.Float64Var(&o.Rate, "rate", 0, "`events` per second in all, of an open loop whose latencies count from when a beacon was due; 0: each connection sends when it is answered")
	fs.IntVar(&o.Connections, "connections", 64, "`connections` that send")
	fs.IntVar(&o.InFlight, "in-flight", 4, "`messages` of a websocket that wait for their answer at once")
	fs.IntVar(&o.Sessions, "sessions", 512, "different `sessions` that the traffic is made of, each over and over under new ids")
	fs.IntVar(&o.Events, "events", 10, "`events` of a beacon, 1 to 200")
	fs.IntVar(&o.Batch, "batch", 300, "`events` of a websocket's message, a multiple of those of a beacon")
	fs.Float64Var(&o.Hostile, "hostile", 0, "`share` of bodies, 0 to 1, that are mutated: broken, spliced, nested, gzip bombs; they count apart")
	fs.IntVar(&o.Idle, "idle", 0, "`websockets` that are open beside the load and only answer pings")
	fs.DurationVar(&o.Duration, "duration", 10*time.Second, "`time` that is measured")
	fs.DurationVar(&o.Warmup, "warmup", time.Second, "`time` of load before it that is not counted")
	fs.DurationVar(&o.Settle, "settle", 2*time.Second, "with --pid: the server's CPU time is read when it has been quiet for this `time`, so that work that it put off counts")
	fs.Uint64Var(&o.Seed, "seed", 1, "`number` from which the corpus is made")
	fs.IntVar(&o.PID, "pid", 0, "`process` of the server, on this machine: its CPU time and memory with those of its children are told; 0: not known")
	asJSON := fs.Bool("json", false, "print JSON")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	o.Format = corpus.Format(format)
	if keys != "" {
		o.Keys = strings.Split(keys, ",")
	}
	if err := o.Check(); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "serin load: %s\n", strings.TrimSpace(line))
		}
		return errUsage
	}
	r, err := load.Run(ctx, o)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(r)
	}
	r.Print(stdout)
	return nil
}
