package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traffic describes simulated clients: sessions that arrive at a rate, take
// part in a rollout, and behave as real ones do, each of them over HTTP with
// the beacons that the SDK would send.
type traffic struct {
	server   string // URL
	key      string
	app      string
	change   string
	canary   string  // release
	baseline string  // release
	weight   float64 // share of sessions on the canary
	rate     float64 // sessions per second
	broken   string  // device class on which the canary breaks the checkout; empty: none
	seed     uint64
}

// sent counts what the clients have done.
type sent struct{ sessions, beacons, events, failed atomic.Int64 }

// wireBeacon and wireEvent are the native beacon as a client writes it.
type wireBeacon struct {
	V       int               `json:"v"`
	SDK     string            `json:"sdk"`
	App     string            `json:"app"`
	Release string            `json:"release"`
	Session string            `json:"session"`
	User    string            `json:"user,omitempty"`
	Seq     int               `json:"seq"`
	Sent    int64             `json:"sent"`
	Arms    map[string]string `json:"arms,omitempty"`
	Ctx     map[string]string `json:"ctx"`
	Events  []wireEvent       `json:"events"`
}

type wireEvent struct {
	K string         `json:"k"`
	N string         `json:"n"`
	T int64          `json:"t"`
	V *float64       `json:"v,omitempty"`
	M string         `json:"m,omitempty"`
	S string         `json:"s,omitempty"`
	A map[string]any `json:"a,omitempty"`
}

// run sends sessions until ctx ends, and waits for those under way.
func (t traffic) run(ctx context.Context, out *sent) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	rng := rand.New(rand.NewPCG(t.seed, 1))
	slots := make(chan struct{}, 4096)
	var wg sync.WaitGroup
	defer wg.Wait()
	next := time.Now()
	for n := 0; ; n++ {
		next = next.Add(time.Duration(rng.ExpFloat64() / t.rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		s := session{t: t, rng: rand.New(rand.NewPCG(t.seed, uint64(n)+2)), client: client, out: out}
		slots <- struct{}{}
		wg.Go(func() {
			s.live(ctx)
			<-slots
		})
	}
}

// session is one simulated visit.
type session struct {
	t      traffic
	rng    *rand.Rand
	client *http.Client
	out    *sent
	b      wireBeacon
}

var devices = []struct {
	name, os, browser, network string
	share                      float64
	slow                       float64 // factor on LCP
}{
	{"mobile", "Android 15", "Chrome 142", "4g", 0.58, 1.25},
	{"desktop", "Windows 11", "Edge 142", "ethernet", 0.33, 0.8},
	{"tablet", "iPadOS 26", "Safari 26", "wifi", 0.09, 1},
}

func (s *session) live(ctx context.Context) {
	s.out.sessions.Add(1)
	arm, release := "baseline", s.t.baseline
	if s.rng.Float64() < s.t.weight {
		arm, release = "canary", s.t.canary
	}
	d := devices[len(devices)-1]
	u := s.rng.Float64()
	for _, c := range devices {
		if u < c.share {
			d = c
			break
		}
		u -= c.share
	}
	s.b = wireBeacon{V: 1, SDK: "serin-js/1.0.0", App: s.t.app, Release: release, Session: fmt.Sprintf("%016x%08x", s.rng.Uint64(), s.rng.Uint32()),
		User: fmt.Sprintf("h:%08x", s.rng.Uint32N(1<<20)), Arms: map[string]string{s.t.change: arm},
		Ctx: map[string]string{"platform": "web", "os": d.os, "browser": d.browser, "device": d.name, "network": d.network, "page": "/checkout"}}
	now := time.Now().UnixMilli()
	s.send(ctx, []wireEvent{{K: "exposure", N: s.t.change, T: now, A: map[string]any{"arm": arm}}, {K: "session", N: "start", T: now}})
	if s.rng.Float64() < 0.02 {
		return // gone before it could say more, on either arm
	}
	s.sleep(ctx, 300*time.Millisecond, 1500*time.Millisecond)
	now = time.Now().UnixMilli()
	lcp := 1500 * d.slow * math.Exp(0.5*s.rng.NormFloat64())
	page := []wireEvent{
		vital("TTFB", now, 180*math.Exp(0.5*s.rng.NormFloat64())),
		vital("FCP", now, lcp*0.6),
		vital("LCP", now, lcp),
		{K: "view", N: "/checkout", T: now},
	}
	if s.rng.Float64() < 0.025 {
		took := 120.0
		page = append(page, wireEvent{K: "request", N: "POST /api/cart", T: now, V: &took, A: map[string]any{"status": 503, "failed": true}})
	}
	s.send(ctx, page)
	s.sleep(ctx, 300*time.Millisecond, 2500*time.Millisecond)
	now = time.Now().UnixMilli()
	end := []wireEvent{vital("INP", now, 90*math.Exp(0.7*s.rng.NormFloat64())), vital("CLS", now, 0.03*math.Exp(1.2*s.rng.NormFloat64()))}
	breaks := 0.03
	if arm == "canary" && d.name == s.t.broken {
		breaks = 0.35
	}
	if s.rng.Float64() < breaks {
		end = append(end, wireEvent{K: "error", N: "TypeError", T: now, M: "undefined is not an object (evaluating 'cart.total.format')",
			S: "pay@https://shop.example/assets/checkout.js:1:20817", A: map[string]any{"handled": false}})
	} else {
		total := math.Round(4000*math.Exp(0.6*s.rng.NormFloat64())) / 100
		end = append(end, wireEvent{K: "metric", N: "order_value", T: now, V: &total})
	}
	s.send(ctx, append(end, wireEvent{K: "session", N: "end", T: now}))
}

func vital(name string, t int64, v float64) wireEvent {
	v = math.Round(v*1000) / 1000
	return wireEvent{K: "vital", N: name, T: t, V: &v}
}

func (s *session) sleep(ctx context.Context, lo, hi time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(lo + time.Duration(s.rng.Float64()*float64(hi-lo))):
	}
}

// send sends one beacon, and the same bytes again where it was not
// acknowledged, as the SDK does.
func (s *session) send(ctx context.Context, events []wireEvent) {
	s.b.Events, s.b.Sent = events, time.Now().UnixMilli()
	body, err := json.Marshal(s.b)
	if err != nil {
		panic("BUG: a beacon that is not JSON: " + err.Error())
	}
	s.b.Seq++
	for try := range 4 {
		if try > 0 {
			s.sleep(ctx, time.Duration(try)*200*time.Millisecond, time.Duration(try)*400*time.Millisecond)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.t.server+"/v1/beacons?key="+s.t.key, bytes.NewReader(body))
		if err != nil {
			panic("BUG: " + err.Error())
		}
		req.Header.Set("Content-Type", "text/plain;charset=UTF-8")
		res, err := s.client.Do(req)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		_, _ = io.Copy(io.Discard, res.Body) // for the connection's sake; the status has been read
		res.Body.Close()
		if res.StatusCode == http.StatusAccepted {
			s.out.beacons.Add(1)
			s.out.events.Add(int64(len(events)))
			return
		}
		if res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests {
			break
		}
	}
	s.out.failed.Add(1)
}
