package datadog

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

const common = `"application":{"id":"app-1"},"session":{"id":"27379a04-56ec-46a8-bb2d-72002f357833","type":"user"},"service":"shop-web","version":"2.4.1","date":1795538525054`

// decode decodes the body of a request that the SDK meant for a path.
func decode(t *testing.T, forward, body string) dialect.Result {
	t.Helper()
	res, err := Decode(&dialect.Request{Method: "POST", Target: &url.URL{Path: "/dd", RawQuery: url.Values{"ddforward": {forward}}.Encode()},
		Header: map[string]string{}, Body: []byte(body), Now: time.UnixMilli(1795538530_000).UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func view(version int, cls float64) string {
	return fmt.Sprintf(`{"type":"view",%s,"_dd":{"document_version":%d},"view":{"id":"v1","url":"https://shop.example/a?b","largest_contentful_paint":152000000,"cumulative_layout_shift":%g}}`, common, version, cls)
}

// told returns the events of a result, each with the number of its beacon.
func told(res dialect.Result) map[string]string {
	list := map[string]string{}
	for i := range res.Beacons {
		b := &res.Beacons[i]
		for j := range b.Events {
			e := &b.Events[j]
			list[fmt.Sprintf("%d/%s/%s/%g", b.Seq, e.Kind, e.Name, e.Value)] = b.Session + string(b.Release)
		}
	}
	return list
}

// TestViewIsToldOnce: the SDK sends of each view the newest version that it has
// when it sends, so the first one that comes is rarely number 1, and what a later
// body repeats has the number that it had.
func TestViewIsToldOnce(t *testing.T) {
	all := told(decode(t, "/api/v2/rum", view(3, 0.05)+"\n"+view(5, 0.1)+"\n"+view(4, 0.07)))
	if len(all) != 3 {
		t.Fatalf("versions 3, 5 and 4 of a view in one body are %v, want a view, LCP and the CLS of the newest", all)
	}
	for k, v := range told(decode(t, "/api/v2/rum", view(9, 0.2))) {
		all[k] = v
	}
	var views, lcp, cls int
	for k := range all {
		for name, n := range map[string]*int{"/view/": &views, "/LCP/": &lcp, "/CLS/": &cls} {
			if strings.Contains(k, name) {
				*n++
			}
		}
	}
	if views != 1 || lcp != 1 || cls != 2 {
		t.Errorf("two bodies with versions of one view tell of %d views, %d LCPs and %d CLSs, want 1, 1 and both values: %v", views, lcp, cls, all)
	}
}

// TestViewUpdateIsWhole: an update leaves out what did not change, such as the
// release.
func TestViewUpdateIsWhole(t *testing.T) {
	update := `{"type":"view_update","application":{"id":"app-1"},"session":{"id":"27379a04-56ec-46a8-bb2d-72002f357833","type":"user"},"date":1795538525054,"_dd":{"document_version":7},` +
		`"view":{"id":"v1","url":"https://shop.example/a","interaction_to_next_paint":72000000}}`
	res := decode(t, "/api/v2/rum", `{"type":"long_task",`+common+`,"long_task":{"duration":105500000}}`+"\n"+update)
	found := false
	for i := range res.Beacons {
		for j := range res.Beacons[i].Events {
			e := &res.Beacons[i].Events[j]
			if e.Kind == event.View {
				t.Error("an update is a view of its own")
			}
			found = found || e.Name == "INP" && e.Value == 72 && res.Beacons[i].Release == "2.4.1" && res.Beacons[i].Ctx.Page == "/a"
		}
	}
	if !found || len(res.Rejected) > 0 {
		t.Errorf("no INP of 72 ms of release 2.4.1 on /a: %+v", res)
	}
}

// TestOtherTracks: replays are multipart bodies, which go through the same proxy.
func TestOtherTracks(t *testing.T) {
	for _, track := range []string{"replay", "profile", "logs"} {
		res := decode(t, "/api/v2/"+track+"?ddsource=browser", "------WebKitFormBoundary\r\nContent-Disposition: form-data; name=\"segment\"\r\n\r\n\x78\x9c")
		if res.Ignored[track] != 1 || res.Events() != 0 {
			t.Errorf("a body of %s is %+v, want it counted and left out", track, res)
		}
	}
}

// TestRequestWithoutStatus: what the SDK did not see begin has no status where the
// answer may not be read, and did not fail for it.
func TestRequestWithoutStatus(t *testing.T) {
	resource := func(status string) event.One {
		res := decode(t, "/api/v2/rum", `{"type":"resource",`+common+`,"resource":{"type":"fetch","url":"https://api.example/x","duration":5900000`+status+`}}`)
		if res.Events() != 1 {
			t.Fatalf("%+v", res)
		}
		return res.Beacons[0].Events[0]
	}
	if e := resource(""); e.Kind != event.Request || e.Flag("failed") {
		t.Errorf("a request without status is %+v, want one that did not fail", e)
	}
	if e := resource(`,"status_code":0`); !e.Flag("failed") {
		t.Errorf("a request with status 0 is %+v, want one that failed", e)
	}
}

// TestEmpty: a body of nothing is none of the protocol.
func TestEmpty(t *testing.T) {
	for _, body := range []string{"", " \n\n"} {
		if _, err := Decode(&dialect.Request{Header: map[string]string{}, Body: []byte(body)}); !errors.Is(err, dialect.ErrMalformed) {
			t.Errorf("%q: %v", body, err)
		}
	}
}
