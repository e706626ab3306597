package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// keepingLog is a store that is too slow, and keeps what it stored.
type keepingLog struct {
	slowLog
	mu   sync.Mutex
	msgs [][]byte
}

// Append keeps the message and takes its time.
func (k *keepingLog) Append(ctx context.Context, data []byte) (uint64, error) {
	k.mu.Lock()
	k.msgs = append(k.msgs, slices.Clone(data)) // which is written again
	n := len(k.msgs)
	k.mu.Unlock()
	_, err := k.slowLog.Append(ctx, data)
	return uint64(n), err
}

// TestRefusedEventsAreCounted has beacons refused as a whole, by each of the ways in:
// their events are rejected ones.
func TestRefusedEventsAreCounted(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "counted", Keys: []tenant.Key{{Key: "pk_counted"}, {Key: "pk_elsewhere", App: "elsewhere"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: brokenLog{errors.New("full")}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}})
	runs(t, e)
	s := httptest.NewServer(e)
	defer s.Close()
	events := viewText(time.Now()) + "," + strings.Replace(viewText(time.Now()), `"view"`, `"poison"`, 1)
	count := func(reason event.Reason) uint64 {
		return metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_rejected_events_total{tenant="counted",reason=%q}`, reason)).Get()
	}
	faro := `{"meta":{"app":{"name":"a","version":"1"},"session":{"id":"session-0"}},"events":[{"name":"x"},{"name":"x","timestamp":"1999-01-01T00:00:00Z"}]}`
	for _, c := range []struct {
		way, key string
		reason   event.Reason
		want     uint64
	}{
		{"http", "pk_elsewhere", event.ReasonApp, 2}, {"stream", "pk_elsewhere", event.ReasonApp, 2},
		{"http", "pk_counted", event.ReasonBusy, 2}, {"stream", "pk_counted", event.ReasonBusy, 2}, {"faro", "pk_counted", event.ReasonClock, 1},
	} {
		before := count(c.reason)
		switch c.way {
		case "http":
			(&edge{url: s.URL}).send(t, c.key, beaconText(0, events))
		case "stream":
			stream := open(t, s.URL, c.key)
			send(t, stream, beaconText(0, events))
			answers(t, stream)
			stream.Close()
		case "faro":
			res, err := http.Post(s.URL+"/faro/collect/"+c.key, "application/json", strings.NewReader(faro))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		if got := count(c.reason) - before; got != c.want {
			t.Errorf("%s with %s: %d events are counted as rejected for %s, want %d", c.way, c.key, got, c.reason, c.want)
		}
	}
}

// TestOverload has a store that takes far longer than its target: what was sent
// is accepted, rejected or shed, to the last event; the top classes lose next to
// nothing before the others are gone; and both cohorts lose the same share.
func TestOverload(t *testing.T) {
	log := &keepingLog{slowLog: slowLog{120 * time.Millisecond}}
	_, url, _, _ := limited(t, streamDefaults, log)
	const clients, each = 64, 40
	var mu sync.Mutex
	var sent, accepted, refused, shed int
	var advised bool
	events := func(t int64) string {
		return strings.Join([]string{
			fmt.Sprintf(`{"k":"exposure","n":"release/2","t":%d,"a":{"arm":"canary"}}`, t), fmt.Sprintf(`{"k":"crash","n":"x","t":%d}`, t),
			fmt.Sprintf(`{"k":"resource","n":"/a.js","t":%d}`, t), fmt.Sprintf(`{"k":"longtask","n":"x","t":%d}`, t), fmt.Sprintf(`{"k":"poison","n":"x","t":%d}`, t)}, ",")
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for n := range each {
				body := strings.Replace(beaconText(0, events(time.Now().UnixMilli())), "session-0", fmt.Sprintf("session-%d-%d", c, n), 1)
				if (c+n)%5 == 0 { // both cohorts at all times
					body = strings.Replace(body, `"events"`, `"arms":{"release/2":"canary"},"events"`, 1)
				}
				res, err := http.Post(url+"/v1/beacons?key=pk_open", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				var a struct {
					Accepted, Shed int
					Rejected       []struct{}
				}
				err = json.NewDecoder(res.Body).Decode(&a)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusAccepted {
					t.Errorf("%d, %v", res.StatusCode, err)
					return
				}
				mu.Lock()
				sent += 5
				accepted, refused, shed = accepted+a.Accepted, refused+len(a.Rejected), shed+a.Shed
				advised = advised || strings.Contains(res.Header.Get("Serin-Classes"), "resource;")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if accepted+refused+shed != sent {
		t.Errorf("%d sent, %d accepted, %d rejected, %d shed", sent, accepted, refused, shed)
	}
	if shed == 0 || !advised {
		t.Fatalf("%d shed, advice %v: there was no overload", shed, advised)
	}
	// The store says the same as the answers.
	var stored, dropped int64
	var top [2]int
	var n, lost [2]float64
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, m := range log.msgs {
		err := batch.ReadGroup(m, func(_ tenant.ID, b *event.Beacon) error {
			cohort := len(b.Arms)
			n[cohort]++
			stored += int64(len(b.Events))
			for i := range b.Events {
				if c := event.ClassOf(b.Tenancy, &b.Events[i]); c <= event.ClassCrash {
					top[c]++
				}
			}
			for _, d := range b.Drops {
				dropped += d.Count
			}
			if len(b.Drops) > 0 {
				lost[cohort]++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if stored != int64(accepted) || dropped != int64(shed) {
		t.Errorf("stored %d and dropped %d, answered %d and %d", stored, dropped, accepted, shed)
	}
	total := clients * each
	if top[event.ClassAccounting] != total || float64(total-top[event.ClassCrash]) > 0.001*float64(total) {
		t.Errorf("of %d, the two top classes kept %v", total, top)
	}
	a, b := lost[0]/n[0], lost[1]/n[1]
	t.Logf("shed %.1f %% of the events; sessions that lost: baseline %.3f of %.0f, canary %.3f of %.0f", 100*float64(shed)/float64(sent), a, n[0], b, n[1])
	// Binomial noise of the smaller cohort, four standard errors.
	if math.Abs(a-b) > 4*math.Sqrt(0.25/n[1]) {
		t.Errorf("cohorts lost unequally: %.3f and %.3f", a, b)
	}
}
