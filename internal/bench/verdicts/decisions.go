package verdicts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// Decisions says how verdicts are decided and told.
type Decisions struct {
	Program   string   // serin
	Env       []string // of its process
	Dir       string   // of its data
	Rollouts  int
	Receivers int           // webhooks, each a server of its own
	Failing   int           // of them, which never take anything: in turn one that answers 500, one that is not there, one that hangs
	Flaky     float64       // share of the requests to the others that are answered 503
	Every     time.Duration // between decisions
	Wait      time.Duration // after the last one; what was not taken then is missing
	Seed      uint64
}

// Delivered is what [Decisions.Run] measured.
type Delivered struct {
	Delays  Delays // from issued_at of a rollback to the 2xx, of the receivers that do not fail
	Missing int    // rollbacks that such a receiver had not taken in the end
	Refused int    // requests that were answered with an error
}

// Run decides a rollback of each rollout and measures when receivers take it.
func (o Decisions) Run(ctx context.Context) (d Delivered, err error) {
	if o.Rollouts < 1 || o.Receivers < 1 || o.Failing < 0 || o.Failing >= o.Receivers || o.Flaky < 0 || o.Flaky >= 1 {
		return d, fmt.Errorf("%d rollouts, %d receivers, %d failing, flaky %v: want 1 or more, 1 or more, fewer than those, [0,1)", o.Rollouts, o.Receivers, o.Failing, o.Flaky)
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	taken, began := map[string]bool{}, map[string]bool{}
	ended := make(chan struct{})
	var hooks []string
	for i := range o.Receivers {
		fails := i < o.Failing
		r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			v, err := read(req)
			mu.Lock()
			flaky := rng.Float64() < o.Flaky
			if err != nil || fails || flaky {
				d.Refused++
			}
			mu.Unlock()
			switch {
			case fails && i%3 == 2:
				select {
				case <-req.Context().Done():
				case <-ended:
				}
				return
			case err != nil, fails:
				w.WriteHeader(http.StatusInternalServerError)
				return
			case flaky:
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.WriteHeader(http.StatusNoContent)
			if v.Decision == "hold" {
				mu.Lock()
				defer mu.Unlock()
				began[fmt.Sprint(i, v.Rollout)] = true
				return
			}
			if name := fmt.Sprint(i, v.Rollout); v.Decision == "rollback" {
				mu.Lock()
				defer mu.Unlock()
				if !taken[name] { // told again after an answer that was lost: the first one counts
					taken[name] = true
					d.Delays = append(d.Delays, time.Since(v.IssuedAt))
				}
			}
		}))
		if fails && i%3 == 1 {
			r.Close() // nobody listens there
		} else {
			defer r.Close()
		}
		hooks = append(hooks, r.URL)
	}
	defer close(ended)
	s, err := start(ctx, o.Program, o.Env, o.Dir, hooks)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	for i := range o.Rollouts {
		if err := s.call(ctx, "/v1/rollouts", fmt.Sprintf(`{"id":"r%d","app":"shop-%d","change":"release/2","canary":"2","baseline":"1","stages":[{"weight":0.1,"deadline":"10h"}]}`, i, i%20)); err != nil {
			return d, err
		}
	}
	// That rollouts began is told, too; the decisions are not to queue behind it.
	all := o.Rollouts * (o.Receivers - o.Failing)
	count := func(of func() int) int {
		mu.Lock()
		defer mu.Unlock()
		return of()
	}
	for until := time.Now().Add(o.Wait); time.Now().Before(until) && count(func() int { return len(began) }) < all; {
		time.Sleep(20 * time.Millisecond)
	}
	next := time.Now()
	for i := range o.Rollouts {
		if err := s.call(ctx, fmt.Sprintf("/v1/rollouts/r%d/override", i), `{"decision":"rollback","why":"a measurement"}`); err != nil {
			return d, err
		}
		next = next.Add(o.Every)
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(time.Until(next)):
		}
	}
	for until := time.Now().Add(o.Wait); time.Now().Before(until) && count(func() int { return len(d.Delays) }) < all; {
		time.Sleep(20 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(d.Delays)
	d.Missing = all - len(d.Delays)
	return d, nil
}
