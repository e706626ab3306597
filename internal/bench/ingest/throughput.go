package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"serin.dev/serin/internal/bench/load"
)

// bench is one comparison.
type bench struct {
	*options
	capacity float64 // events per second of the native format at full load
	profiled int     // servers of which there is a profile
}

// contender is a server with the load that it is measured under.
type contender struct {
	name   string
	server string
	load   sent
}

const (
	nativeName  = "Serin, native, acknowledged after sync"
	streamName  = "Serin, websocket, 300 events a message in 2 beacons"
	nopName     = "Collector, OTLP protobuf, to nowhere"
	nopJSONName = "Collector, OTLP JSON, to nowhere"
	durableName = "Collector, OTLP protobuf, synced queue"
)

var contenders = []contender{
	{nativeName, "serin", sent{key: "pk_good", format: "native"}},
	{nopName, "collector", sent{key: "none", format: "otlp-proto"}},
	{"Serin, native, gzip", "serin", sent{key: "pk_good", format: "native-gzip"}},
	{durableName, "collector-durable", sent{key: "none", format: "otlp-proto"}},
	{"Serin, websocket, 300 events a message in 30 beacons", "serin", sent{key: "pk_good", format: "stream", connections: 16}},
	{streamName, "serin", sent{key: "pk_good", format: "stream", events: 150, connections: 16}},
	{"Serin, OTLP protobuf", "serin", sent{key: "pk_good", format: "otlp-proto"}},
	{nopJSONName, "collector", sent{key: "none", format: "otlp-json"}},
	{"Serin, OTLP JSON", "serin", sent{key: "pk_good", format: "otlp-json"}},
	{"Serin, Faro", "serin", sent{key: "pk_good", format: "faro"}},
	{"Serin, Sentry", "serin", sent{key: "pk_good", format: "sentry"}},
}

// compared are the ratios that are asked for: of events per CPU-second, with
// what is to be reached.
var compared = []struct {
	of, to string
	reach  float64
}{
	{nativeName, nopName, 3},
	{nativeName, durableName, 10},
	{"Serin, OTLP protobuf", nopName, 0},
	{"Serin, OTLP protobuf", durableName, 0},
	{"Serin, OTLP JSON", nopJSONName, 0},
	{"Serin, Faro", nopJSONName, 0},
	{"Serin, Sentry", nopJSONName, 0},
}

// disk is what Serin stored of a load.
type disk struct{ journal, segments float64 } // bytes per event

// fullConnections are as many as load a server fully though each waits for its
// answer, which is given after a sync of the disk: with 64 Serin's core is idle for a
// sixth of the time, and its groups are small.
const fullConnections = 256

// throughput loads each server fully, a fresh one each time.
func (b *bench) throughput(ctx context.Context) error {
	reports := map[string][]*load.Report{}
	var stored []disk
	var fault error // of a contender, which ends the measuring; what was measured before is told
rounds:
	for round := range b.rounds {
		order := slices.Clone(contenders)
		if round%2 == 1 {
			slices.Reverse(order) // what the machine does meanwhile meets each from both sides
		}
		for _, c := range order {
			if b.profiles != "" && c.server != "serin" {
				continue
			}
			r, d, err := b.once(ctx, &c)
			if err != nil {
				fault = fmt.Errorf("%s: %w", c.name, err)
				break rounds
			}
			reports[c.name] = append(reports[c.name], r)
			if c.name == nativeName {
				stored = append(stored, d)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s: %.0f events per CPU-second\n", round+1, b.rounds, c.name, r.EventsPerCPUSecond)
		}
	}
	perCPU := func(r *load.Report) float64 { return r.EventsPerCPUSecond }
	fmt.Printf("\n| full load, 10 events a body | accepted events per CPU-second | of the rounds | events/s | p50 ms | p99 ms | bytes of body per event | peak RSS MB | generator's share of its core | cores busy for others |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range contenders {
		rs := reports[c.name]
		if len(rs) == 0 {
			continue
		}
		fmt.Printf("| %s | %.0f | %.0f to %.0f | %.0f | %.1f | %.1f | %.0f | %.0f | %.2f | %.2f |\n", c.name, median(rs, perCPU), lowest(rs, perCPU), highest(rs, perCPU),
			median(rs, func(r *load.Report) float64 { return r.AcceptedPerSecond }), median(rs, func(r *load.Report) float64 { return r.P50ms }),
			median(rs, func(r *load.Report) float64 { return r.P99ms }), median(rs, func(r *load.Report) float64 { return float64(r.Bytes) / float64(max(r.Events, 1)) }),
			highest(rs, func(r *load.Report) float64 { return float64(r.PeakRSSBytes) / 1e6 }),
			highest(rs, func(r *load.Report) float64 { return r.LoadCPUSeconds / r.Seconds }), median(rs, func(r *load.Report) float64 { return r.OthersCores }))
	}
	fmt.Printf("\n| ratio of events per CPU-second | median | of the rounds | to reach |\n| --- | --- | --- | --- |\n")
	for _, c := range compared {
		var ratios []float64
		for i := range min(len(reports[c.of]), len(reports[c.to])) {
			ratios = append(ratios, perCPU(reports[c.of][i])/perCPU(reports[c.to][i]))
		}
		if len(ratios) == 0 {
			continue
		}
		goal := "-"
		if c.reach > 0 {
			goal = fmt.Sprintf("%g", c.reach)
		}
		fmt.Printf("| %s : %s | %.2f | %.2f to %.2f | %s |\n", c.of, c.to, middle(ratios), slices.Min(ratios), slices.Max(ratios), goal)
	}
	fmt.Printf("\n| stored, native at full load | bytes per event | to reach |\n| --- | --- | --- |\n")
	journal, segments := make([]float64, len(stored)), make([]float64, len(stored))
	for i, d := range stored {
		journal[i], segments[i] = d.journal, d.segments
	}
	fmt.Printf("| journal | %.1f | at most 40 |\n| segments | %.1f | at most 8 |\n", middle(journal), middle(segments))
	b.capacity = median(reports[nativeName], func(r *load.Report) float64 { return r.AcceptedPerSecond })
	return fault
}

// once measures one server from its start to its end.
func (b *bench) once(ctx context.Context, c *contender) (_ *load.Report, d disk, err error) {
	s, err := b.start(ctx, c.server, 0)
	if err != nil {
		return nil, d, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	l := c.load
	if l.connections == 0 {
		l.connections = fullConnections
	}
	r, err := b.load(ctx, s, l)
	if err != nil {
		return nil, d, err
	}
	if r.Accepted == 0 {
		return nil, d, fmt.Errorf("nothing was accepted: %v, %d failed\n%s", r.Statuses, r.Failed, s.Log())
	}
	switch c.server {
	case "collector-durable":
		if s.sunk.Load() == 0 {
			return nil, d, fmt.Errorf("the collector forwarded nothing:\n%s", s.Log())
		}
	case "serin":
		// Protocols whose answers do not say how many were taken are held
		// against the server's count.
		accepted, err := s.metric(ctx, "serin_ingest_accepted_events_total")
		if err != nil {
			return nil, d, err
		}
		rejected, err := s.metric(ctx, "serin_ingest_rejected_events_total")
		if err != nil {
			return nil, d, err
		}
		if accepted < float64(r.Accepted) || rejected > 0 {
			return nil, d, fmt.Errorf("the server says that it accepted %.0f events and rejected %.0f; by its answers it accepted %d", accepted, rejected, r.Accepted)
		}
		if d, err = s.perEvent(ctx, accepted); err != nil {
			return nil, d, err
		}
	}
	return r, d, nil
}

// perEvent is what is on the disk of a server that is quiet.
func (s *server) perEvent(ctx context.Context, events float64) (d disk, err error) {
	bytes, err := s.metric(ctx, "serin_journal_bytes_total")
	if err != nil {
		return d, err
	}
	segments, err := s.stored("segments")
	if err != nil {
		return d, err
	}
	return disk{bytes / events, float64(segments) / events}, nil
}

func values(rs []*load.Report, of func(*load.Report) float64) []float64 {
	out := make([]float64, len(rs))
	for i, r := range rs {
		out[i] = of(r)
	}
	return out
}

// middle is the median; of two, the lower.
func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return s[(len(s)-1)/2]
}

func median(rs []*load.Report, of func(*load.Report) float64) float64 { return middle(values(rs, of)) }
func lowest(rs []*load.Report, of func(*load.Report) float64) float64 {
	return slices.Min(values(rs, of))
}
func highest(rs []*load.Report, of func(*load.Report) float64) float64 {
	return slices.Max(values(rs, of))
}
