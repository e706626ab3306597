package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/api"
	"serin.dev/serin/internal/tenant"
)

// TestHeaderLimit sends heads of as many bytes as are allowed, and of one more.
func TestHeaderLimit(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	for bytes, want := range map[int]string{maxHeaderBytes: "200", maxHeaderBytes + 1: "431"} {
		head := "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Pad: "
		head += strings.Repeat("a", bytes-len(head)-4) + "\r\n\r\n"
		conn, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		var version, status string
		if _, err := fmt.Fscan(conn, &version, &status); err != nil || status != want {
			t.Errorf("%d bytes: status %q, %v; want %s", bytes, status, err, want)
		}
	}
}

// TestForeignTenantReadsNothing walks every route of the API with everything
// that is not a token of the owner.
func TestForeignTenantReadsNothing(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	createRollout(t, s)
	const secret = "owners-own-page"
	sendBeacon(t, s, ownKey, secret)
	// Until the owner sees it, its absence elsewhere proves nothing.
	for i := 0; ; i++ {
		raw, err := get(t.Context(), s.url()+"/v1/events", ownViewer)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), secret) {
			break
		}
		if i == 100 {
			t.Fatal("the owner does not see the event")
		}
		time.Sleep(50 * time.Millisecond)
	}
	bodies := map[string]string{"/v1/rollouts": strings.Replace(testRollout, `"r1"`, `"theirs"`, 1),
		"/v1/rollouts/{id}/stage": `{"stage":0}`, "/v1/rollouts/{id}/shadow": `{"policy":{}}`, "/v1/rollouts/{id}/gate": `{}`, "/v1/rollouts/{id}/assigned": `{"canary":1,"baseline":9}`, "/v1/documents/{kind}/{name}": `{"text":""}`, "/v1/documents/check": `{"changes":[]}`, "/v1/documents/back": `{"number":0}`, "/v1/documents": `{"changes":[{"kind":"policy","name":"theirs","text":"kind: policy\nname: theirs\nversion: 1\n"}]}`, "/v1/slos/{id}/exception": `{"why":"x","until":"2099-01-01T00:00:00Z"}`, "/v1/releases": `{"app":"x","release":"1","state":"deployed"}`, "/v1/rollouts/{id}/override": `{"decision":"promote","why":"I can"}`}
	ask := func(method, path, token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.url()+strings.Replace(path, "{id}", "r1", 1), strings.NewReader(bodies[path]))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	routes := api.New(api.Options{}).Routes()
	if len(routes) < 8 {
		t.Fatalf("only %d routes", len(routes))
	}
	for _, r := range routes {
		name := r.Method + " " + r.Path
		// Nobody, the owner's public key, a foreign public key, a wrong token.
		for _, token := range []string{"", ownKey, foreignKey, ownToken + "x", strings.ToUpper(ownToken)} {
			if status, text := ask(r.Method, r.Path, token); status != http.StatusUnauthorized || leaks(text, secret) {
				t.Errorf("%s with token %q: %d %s", name, token, status, text)
			}
		}
		if r.Role > tenant.Viewer {
			if status, text := ask(r.Method, r.Path, ownViewer); status != http.StatusForbidden {
				t.Errorf("%s with a viewer's token: %d %s", name, status, text)
			}
		}
		// A token that is good, for another tenant.
		status, text := ask(r.Method, r.Path, foreignToken)
		if leaks(text, secret) {
			t.Errorf("%s with a foreign token: %d %s", name, status, text)
		}
		if strings.Contains(r.Path, "{id}") && status != http.StatusNotFound {
			t.Errorf("%s with a foreign token: %d, want 404 as for a rollout that is not there", name, status)
		}
	}
	// What the foreign tenant did above went into its own house.
	raw, err := get(t.Context(), s.url()+"/v1/rollouts", ownToken)
	if err != nil || strings.Contains(string(raw), "theirs") || !strings.Contains(string(raw), `"decision":"hold"`) {
		t.Errorf("the owner now sees %s, %v", raw, err)
	}
}

// leaks reports whether an answer holds what is the owner's: its event, or its
// rollout's tenant.
func leaks(text, secret string) bool {
	return strings.Contains(text, secret) || strings.Contains(text, `"own"`) || strings.Contains(text, `"r1","app"`)
}

func sendBeacon(t *testing.T, s *server, key, page string) {
	t.Helper()
	now := time.Now().UnixMilli()
	body := fmt.Sprintf(`{"v":1,"sdk":"test/1","app":"shop-web","release":"2.4.0","session":"s-%d","seq":0,"sent":%d,"ctx":{"platform":"web","page":%q},
 "events":[{"k":"view","n":"/checkout","t":%d}]}`, now, now, page, now)
	res, err := http.Post(s.url()+"/v1/beacons?key="+key, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
}
