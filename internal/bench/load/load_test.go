package load

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"serin.dev/serin/internal/bench/corpus"
)

// edge is a server that takes beacons, keeps their names and answers as it is
// told.
type edge struct {
	*httptest.Server
	mu     sync.Mutex
	seen   map[string]int // session/seq
	seqs   map[string][]int
	keys   map[string]int
	broken int
	answer func(n int, w http.ResponseWriter)
}

func newEdge(t *testing.T, answer func(int, http.ResponseWriter)) *edge {
	e := &edge{seen: map[string]int{}, seqs: map[string][]int{}, keys: map[string]int{}, answer: answer}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/beacons", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut off at the end of the test
		}
		e.answer(e.take(r.URL.Query().Get("key"), body), w)
	})
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{subprotocol}}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for n := 0; ; n++ {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			var acks []string
			for line := range strings.SplitSeq(string(text), "\n") {
				e.take(r.URL.Query().Get("key"), []byte(line))
				acks = append(acks, fmt.Sprintf(`{"seq":0,"index":%d,"accepted":9,"rejected":[{"index":3,"reason":"kind"}],"shed":1}`, len(acks)))
			}
			if err := conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"message":%d,"acks":[%s]}`, n, strings.Join(acks, ","))); err != nil {
				return
			}
		}
	})
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	return e
}

func (e *edge) take(key string, body []byte) int {
	var b struct {
		Session string
		Seq     int
		Events  []any
	}
	err := json.Unmarshal(body, &b)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.broken++
		return 0
	}
	e.seen[fmt.Sprintf("%s/%d", b.Session, b.Seq)]++
	e.seqs[b.Session] = append(e.seqs[b.Session], b.Seq)
	e.keys[key]++
	return len(b.Events)
}

func ok(n int, w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"accepted":%d,"rejected":[],"shed":1}`, n-1)
}

func options(e *edge) Options {
	return Options{Target: e.URL, Keys: []string{"pk_one", "pk_two"}, Format: corpus.Native, Connections: 4, InFlight: 2, Sessions: 20, Events: 10, Batch: 30,
		Duration: 300 * time.Millisecond, Seed: 7}
}

// TestBeaconsAreNamedOnce sends as fast as it can: no beacon is the repetition
// of another, sessions begin with their first, keys take turns, and the counts
// are those of the server.
func TestBeaconsAreNamedOnce(t *testing.T) {
	for _, f := range []corpus.Format{corpus.Native, corpus.Stream} {
		t.Run(string(f), func(t *testing.T) {
			e := newEdge(t, ok)
			o := options(e)
			o.Format, o.Warmup = f, 50*time.Millisecond
			warm := 0
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed+r.Unsent > 0 || r.Beacons == 0 || r.Accepted != r.Events/10*9 || r.Shed != r.Events/10 {
				t.Errorf("%+v", r)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			for name, n := range e.seen {
				if n > 1 {
					t.Fatalf("beacon %s came %d times", name, n)
				}
			}
			for session, seqs := range e.seqs {
				for i, s := range seqs {
					if s != i {
						t.Fatalf("session %s has beacons %v", session, seqs)
					}
				}
				warm += len(seqs)
			}
			if e.broken > 0 || e.keys["pk_one"] == 0 || e.keys["pk_two"] == 0 || len(e.keys) != 2 {
				t.Errorf("%d broken bodies, keys %v", e.broken, e.keys)
			}
			if total := int64(warm) * 10; total <= r.Events {
				t.Errorf("the server saw %d events, of which %d are counted: the warm-up must not be", total, r.Events)
			}
			if got := r.Arms["canary"].Events + r.Arms["baseline"].Events; got != r.Events {
				t.Errorf("the arms have %d events together, want %d", got, r.Events)
			}
		})
	}
}

// TestLatencyCountsFromWhenABeaconWasDue has the server stall once: at a rate,
// all beacons that were due meanwhile are late, whether or not they had been
// sent.
func TestLatencyCountsFromWhenABeaconWasDue(t *testing.T) {
	const stall = 200 * time.Millisecond
	var once sync.Once
	e := newEdge(t, func(n int, w http.ResponseWriter) {
		once.Do(func() { time.Sleep(stall) })
		ok(n, w)
	})
	o := options(e)
	o.Connections, o.Rate, o.Duration = 1, 2000, 400*time.Millisecond // 200 beacons a second
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Of 80 beacons, the 40 that were due within the stall waited for it: the
	// first for all of it, the last for none.
	if r.P50ms < 1 || r.P99ms < 150 || r.MaxMS < 200 {
		t.Errorf("p50 %v ms, p99 %v ms, longest %v ms beside a stall of 200 ms", r.P50ms, r.P99ms, r.MaxMS)
	}
	if sent := r.Beacons + r.Unsent; sent < 75 || sent > 81 {
		t.Errorf("%d beacons were due, want 80", sent)
	}
}

// TestUnsentIsTold has a server that is far too slow for the rate.
func TestUnsentIsTold(t *testing.T) {
	e := newEdge(t, func(n int, w http.ResponseWriter) { time.Sleep(50 * time.Millisecond); ok(n, w) })
	o := options(e)
	o.Connections, o.Rate = 1, 10_000
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Unsent < 250 || r.Beacons > 10 {
		t.Errorf("%d answered and %d unsent of 300", r.Beacons, r.Unsent)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	e := newEdge(t, func(_ int, w http.ResponseWriter) {
		w.Header().Set("Connection", "close")
		http.Error(w, `{"error":{"reason":"busy"}}`, http.StatusServiceUnavailable)
	})
	r, err := Run(t.Context(), options(e))
	if err != nil {
		t.Fatal(err)
	}
	if r.Accepted != 0 || r.Beacons != 0 || r.Statuses["503"] == 0 || r.Failed > 0 || r.P99ms != 0 {
		t.Errorf("%+v", r)
	}
}

func TestHostileBodiesCountApart(t *testing.T) {
	e := newEdge(t, ok)
	o := options(e)
	o.Hostile = 0.5
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if share := float64(r.Hostile) / float64(r.Hostile+r.Beacons); share < 0.3 || share > 0.7 {
		t.Errorf("%d hostile bodies and %d good ones, want about as many", r.Hostile, r.Beacons)
	}
	if r.Failed > 0 || r.Accepted != r.Events/10*9 {
		t.Errorf("hostile bodies cost good ones: %+v", r)
	}
}

func TestIdleConnectionsStay(t *testing.T) {
	e := newEdge(t, ok)
	o := options(e)
	o.Idle = 50
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Idle != 50 || r.Warning != "" {
		t.Errorf("%d idle connections at the end, %q", r.Idle, r.Warning)
	}
}

// TestServerThatGoesAway closes every connection after its first answer's
// head: the beacon counts as failed, and the load goes on.
func TestServerThatGoesAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 512)
				if n, _ := c.Read(buf); n > 0 {
					_, _ = c.Write([]byte("HTTP/1.1 202 Acc"))
				}
			}()
		}
	}()
	e := &edge{Server: &httptest.Server{URL: "http://" + l.Addr().String()}}
	r, err := Run(t.Context(), options(e))
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed < 2 || r.Beacons > 0 || r.Accepted > 0 {
		t.Errorf("%+v", r)
	}
	if statuses(r.Statuses) != "none" {
		t.Errorf("statuses %v", r.Statuses)
	}
}
