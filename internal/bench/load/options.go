// Package load sends the beacons of a corpus to a running server and measures
// how they are answered. It is made to cost little: bodies are encoded before
// it begins, connections write and read bytes, and one core of it loads one
// core of a server.
//
// At a rate it is an open loop: each beacon has an instant at which it is due,
// whether or not those before it were answered, and its latency counts from
// there, so that a server that stalls does not hide it by being asked less.
package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"serin.dev/serin/internal/bench/corpus"
)

// Options say what is sent where. The zero values of numbers are not defaults;
// cmd/serin has those.
type Options struct {
	Target      string        // http://HOST:PORT
	Remote      bool          // the target may be another machine
	Keys        []string      // public keys, each connection has one in turn
	Format      corpus.Format //
	Rate        float64       // events per second in all; 0: as fast as the answers come
	Connections int           // that send
	InFlight    int           // messages of a websocket that wait for their answer at once
	Sessions    int           // different sessions in the corpus
	Events      int           // of a beacon
	Batch       int           // events of a websocket's message, a multiple of Events
	Hostile     float64       // share of bodies that are mutated, 0 to 1; HTTP only
	Idle        int           // websockets that are open beside the load and say nothing
	Warmup      time.Duration // sent before anything is counted
	Duration    time.Duration // that is counted
	Settle      time.Duration // how long the server must be quiet to be done; with PID
	Seed        uint64        //
	PID         int           // of the server, for its CPU time and memory; 0: not known
}

// maxIdle bounds what one run holds open.
const maxIdle = 100_000

// Check reports all that is wrong with the options, together.
func (o *Options) Check() error {
	var faults []error
	fault := func(name string, value any, want string) {
		faults = append(faults, fmt.Errorf("%s: %v: want %s", name, value, want))
	}
	if host, err := o.host(); err != nil {
		fault("target", fmt.Sprintf("%q", o.Target), "http://HOST:PORT")
	} else if name, _, _ := net.SplitHostPort(host); !o.Remote && !loopback(name) {
		fault("target", fmt.Sprintf("%q", o.Target), "an address of this machine, or --remote where the load is meant for another one")
	}
	if len(o.Keys) == 0 || slices.Contains(o.Keys, "") {
		fault("key", fmt.Sprintf("%q", strings.Join(o.Keys, ",")), "one public key or more, parted by commas")
	}
	if !slices.Contains(corpus.Formats, o.Format) {
		fault("format", fmt.Sprintf("%q", o.Format), fmt.Sprintf("one of %v", corpus.Formats))
	}
	if !(o.Rate >= 0 && o.Rate <= 1e8) {
		fault("rate", o.Rate, "0 to 100000000 events per second")
	}
	for _, n := range []struct {
		name          string
		value, lo, hi int
	}{{"connections", o.Connections, 1, 16384}, {"in-flight", o.InFlight, 1, 64}, {"sessions", o.Sessions, 1, 100_000}, {"events", o.Events, 1, 200}, {"idle", o.Idle, 0, maxIdle}} {
		if n.value < n.lo || n.value > n.hi {
			fault(n.name, n.value, fmt.Sprintf("%d to %d", n.lo, n.hi))
		}
	}
	if o.Format == corpus.Stream && (o.Batch < o.Events || o.Batch > 200*max(o.Events, 1) || o.Batch%max(o.Events, 1) != 0) {
		fault("batch", o.Batch, "a multiple of the events of a beacon, at most 200 beacons")
	}
	if o.Format == corpus.Sentry && o.Events > 40 {
		fault("events", o.Events, "at most 40 in an envelope")
	}
	if !(o.Hostile >= 0 && o.Hostile <= 1) || o.Hostile > 0 && o.Format == corpus.Stream {
		fault("hostile", o.Hostile, "0 to 1, and not over a websocket")
	}
	if o.Warmup < 0 || o.Warmup > time.Hour {
		fault("warmup", o.Warmup, "0s to 1h")
	}
	if o.Duration < 10*time.Millisecond || o.Duration > 24*time.Hour {
		fault("duration", o.Duration, "10ms to 24h")
	}
	if o.Settle < 0 || o.Settle > time.Minute {
		fault("settle", o.Settle, "0s to 1m")
	}
	if limit, need := descriptors(), o.Idle+o.Connections+32; need > limit {
		fault("idle", o.Idle, fmt.Sprintf("%d or fewer beside %d connections: this process may open %d files (ulimit -n)", max(limit-o.Connections-32, 0), o.Connections, limit))
	}
	return errors.Join(faults...)
}

// descriptors is how many files this process may open; the Go runtime has
// raised its limit to the highest that it may have.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return maxIdle // the dial that fails will say so
	}
	return int(min(l.Cur, 1<<30))
}

// host is the target's host and port.
func (o *Options) host() (string, error) {
	u, err := url.Parse(o.Target)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" || u.Port() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return "", errors.New("no http://HOST:PORT")
	}
	return u.Host, nil
}

func loopback(name string) bool {
	if name == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.IsLoopback()
}
