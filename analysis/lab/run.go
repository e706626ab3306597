package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// Options are what all experiments have in common.
type Options struct {
	Seed     uint64
	Rollouts int    // simulated for each row, 1 to 1,000,000
	Engine   string // outcomes or beacons; empty: outcomes
	Workers  int    // 0: as many as there are cores
	// Progress is told now and then how many rollouts of a row are done, if
	// given; by one goroutine at a time.
	Progress func(row string, done, of int)
}

// Engines are the names of the engines.
var Engines = []string{"outcomes", "beacons"}

// Check returns all faults of the options together, naming each field, its value
// and what is allowed.
func (o *Options) Check() error {
	var faults []error
	if o.Rollouts < 1 || o.Rollouts > 1_000_000 {
		faults = append(faults, fmt.Errorf("rollouts: %d: want 1 to 1000000", o.Rollouts))
	}
	switch o.Engine {
	case "", "outcomes", "beacons":
	default:
		faults = append(faults, fmt.Errorf("engine: %q: want one of %v", o.Engine, Engines))
	}
	if o.Workers < 0 || o.Workers > 1024 {
		faults = append(faults, fmt.Errorf("workers: %d: want 0 to 1024", o.Workers))
	}
	return errors.Join(faults...)
}

// bench is what one worker has: an engine that it uses again and again.
type bench struct {
	engine engine
	rng    *rand.Rand // of the rollout at hand
}

// each runs an experiment for each rollout of a row. The draws of a rollout
// depend on the seed, the row's name and the rollout's number alone.
func each(ctx context.Context, o Options, row string, experiment func(b *bench, i int)) error {
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	h := fnv.New64a()
	h.Write([]byte(row)) // a hash.Hash never fails
	stream := h.Sum64()
	var next, done atomic.Int64
	var all sync.WaitGroup
	var telling sync.Mutex
	for range min(workers, o.Rollouts) {
		all.Go(func() {
			b := &bench{engine: newOutcomes()}
			if o.Engine == "beacons" {
				b.engine = &beacons{}
			}
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(o.Rollouts) {
					return
				}
				b.rng = rand.New(rand.NewPCG(o.Seed, stream+uint64(i)*0x9e3779b97f4a7c15))
				experiment(b, int(i))
				n := done.Add(1)
				if o.Progress != nil && telling.TryLock() {
					o.Progress(row, int(n), o.Rollouts)
					telling.Unlock()
				}
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("simulate %s: %d of %d rollouts done: %w", row, done.Load(), o.Rollouts, err)
	}
	return nil
}

// exact returns the exact interval of a probability by k of n trials, at a
// confidence (Clopper & Pearson, Biometrika 26, 1934).
func exact(k, n int, confidence float64) (lo, hi float64) {
	tail := (1 - confidence) / 2
	lo, hi = 0, 1
	if k > 0 {
		lo = solve(func(p float64) bool { return 1-atMost(k-1, n, p) > tail })
	}
	if k < n {
		hi = solve(func(p float64) bool { return atMost(k, n, p) < tail })
	}
	return lo, hi
}

// solve returns the least p in (0,1) from which on a rising condition holds.
func solve(holds func(p float64) bool) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
		if p := (lo + hi) / 2; holds(p) {
			hi = p
		} else {
			lo = p
		}
	}
	return hi
}

// atMost returns the probability of k or fewer successes of n.
func atMost(k, n int, p float64) (sum float64) {
	if p <= 0 {
		return 1
	}
	if p >= 1 {
		return 0
	}
	total, _ := math.Lgamma(float64(n + 1))
	for i := k; i >= 0; i-- {
		a, _ := math.Lgamma(float64(i + 1))
		b, _ := math.Lgamma(float64(n - i + 1))
		term := math.Exp(total - a - b + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
		sum += term
		if float64(i) < float64(n)*p && term < sum*1e-17 {
			break
		}
	}
	return min(sum, 1)
}
