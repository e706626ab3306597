package verdicts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Regression is a canary whose sessions fail more often than the baseline's, from
// the start of its rollout, under the default policy.
type Regression struct {
	Program   string   // serin
	Env       []string // of its process
	Dir       string
	Seeds     []uint64
	AtOnce    int           // seeds whose clients run at the same time
	PerMinute float64       // canary sessions
	Weight    float64       // share of the canary, in (0,1)
	Failing   float64       // share of the baseline's sessions with an error
	More      float64       // and how much more of the canary's
	Limit     time.Duration // after which a seed is given up
}

// Found is what became of one seed.
type Found struct {
	Seed     uint64
	Delay    time.Duration // from the acknowledgement of the first beacon with an error of the regression to the webhook's 2xx
	Sessions int           // of the canary until then
	Missed   bool          // no rollback came in time
	Sentence string
}

// Run measures each seed, in a rollout of an app of its own.
func (o Regression) Run(ctx context.Context) (all []Found, err error) {
	if len(o.Seeds) == 0 || o.AtOnce < 1 || !(o.PerMinute > 0) || !(o.Weight > 0 && o.Weight < 1) || !(o.Failing >= 0 && o.More > 0 && o.Failing+o.More < 1) {
		return nil, fmt.Errorf("%d seeds, %d at once, %v a minute, weight %v, failing %v and %v: want 1 or more, 1 or more, above 0, (0,1), shares that add up to less than 1",
			len(o.Seeds), o.AtOnce, o.PerMinute, o.Weight, o.Failing, o.More)
	}
	var mu sync.Mutex
	arrived := map[string]chan told{}
	for _, seed := range o.Seeds {
		arrived[rolloutOf(seed)] = make(chan told, 16)
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := read(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		if c := arrived[v.Rollout]; c != nil && v.Decision == "rollback" {
			select {
			case c <- v:
			default: // it was told more often than anybody asks
			}
		}
	}))
	defer hook.Close()
	s, err := start(ctx, o.Program, o.Env, o.Dir, []string{hook.URL})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	slots := make(chan struct{}, o.AtOnce)
	var wg sync.WaitGroup
	var faults []error
	for _, seed := range o.Seeds {
		slots <- struct{}{}
		wg.Go(func() {
			f, err := o.one(ctx, s, seed, arrived[rolloutOf(seed)])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				faults = append(faults, fmt.Errorf("seed %d: %w", seed, err))
			}
			all = append(all, f)
			<-slots
		})
	}
	wg.Wait()
	return all, errors.Join(faults...)
}

func rolloutOf(seed uint64) string { return fmt.Sprintf("r%d", seed) }

// one runs the clients of one seed until its rollback has come.
func (o Regression) one(ctx context.Context, s *server, seed uint64, arrived <-chan told) (Found, error) {
	f := Found{Seed: seed}
	ctx, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	err := s.call(ctx, "/v1/rollouts", fmt.Sprintf(`{"id":%q,"app":"shop-%d","change":"release/2","canary":"2","baseline":"1","stages":[{"weight":%v,"deadline":"10h"}]}`, rolloutOf(seed), seed, o.Weight))
	if err != nil {
		return f, err
	}
	c := &clients{o: o, server: s.url, app: fmt.Sprintf("shop-%d", seed), client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	defer c.client.CloseIdleConnections()
	running, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c.run(running, seed)
	}()
	defer func() {
		stop()
		<-gone
	}()
	select {
	case <-ctx.Done():
		f.Missed = true
	case v := <-arrived:
		f.Delay, f.Sentence = time.Since(c.began()), v.Sentence
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.Sessions = c.canary
	return f, nil
}

// clients are the sessions of one app.
type clients struct {
	o           Regression
	server, app string
	client      *http.Client

	mu     sync.Mutex
	first  time.Time // acknowledgement of the first beacon with an error of the regression
	canary int
}

// began is when the first bad beacon was acknowledged; a rollback without one is as
// old as its own message.
func (c *clients) began() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.IsZero() {
		return time.Now()
	}
	return c.first
}

// run starts sessions, by a Poisson process, until ctx ends, and waits for them.
func (c *clients) run(ctx context.Context, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var wg sync.WaitGroup
	defer wg.Wait()
	next := time.Now()
	for n := uint64(0); ; n++ {
		next = next.Add(time.Duration(rng.ExpFloat64() * c.o.Weight / c.o.PerMinute * float64(time.Minute)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		wg.Go(func() { c.session(ctx, rand.New(rand.NewPCG(seed, n+2))) })
	}
}

// session sends its exposure, and after a while what it has seen.
func (c *clients) session(ctx context.Context, rng *rand.Rand) {
	arm, release := "baseline", "1"
	if rng.Float64() < c.o.Weight {
		arm, release = "canary", "2"
		c.mu.Lock()
		c.canary++
		c.mu.Unlock()
	}
	u := rng.Float64()
	bad := arm == "canary" && u >= c.o.Failing && u < c.o.Failing+c.o.More
	device := []string{"mobile", "desktop", "tablet"}[rng.IntN(3)]
	id := fmt.Sprintf("%016x%08x", rng.Uint64(), rng.Uint32())
	seq := 0
	send := func(events []map[string]any) bool {
		now := time.Now().UnixMilli()
		for i := range events {
			events[i]["t"] = now
		}
		body, err := json.Marshal(map[string]any{"v": 1, "sdk": "bench/1.0.0", "app": c.app, "release": release, "session": id, "seq": seq, "sent": now, "arms": map[string]string{"release/2": arm},
			"ctx": map[string]string{"platform": "web", "device": device, "page": "/"}, "events": events})
		if err != nil {
			panic("BUG: a beacon that is not JSON: " + err.Error())
		}
		seq++
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/v1/beacons?key="+key, strings.NewReader(string(body)))
		if err != nil {
			panic("BUG: " + err.Error())
		}
		res, err := c.client.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body) // for the connection's sake; the status has been read
		return res.StatusCode == http.StatusAccepted
	}
	send([]map[string]any{{"k": "exposure", "n": "release/2", "a": map[string]any{"arm": arm}}, {"k": "session", "n": "start"}})
	select {
	case <-ctx.Done():
		return
	case <-time.After(time.Duration(300+rng.IntN(1700)) * time.Millisecond):
	}
	events := []map[string]any{{"k": "view", "n": "/"}, {"k": "vital", "n": "LCP", "v": 800 + 1000*rng.Float64()}, {"k": "vital", "n": "INP", "v": 50 + 100*rng.Float64()}, {"k": "vital", "n": "CLS", "v": 0.01}}
	if u < c.o.Failing || bad {
		events = append(events, map[string]any{"k": "error", "n": "TypeError", "m": "x is undefined", "a": map[string]any{"handled": false}})
	}
	if send(append(events, map[string]any{"k": "session", "n": "end"})) && bad {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.first.IsZero() {
			c.first = time.Now()
		}
	}
}
