package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
