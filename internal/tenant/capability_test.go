package tenant

import (
	"encoding/base64"
	"testing"
	"time"
)

func TestCapability(t *testing.T) {
	id, err := Stored("own")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_764_000_000, 0)
	want := Capability{Tenant: id, Rollout: "release-2.4.1", Scope: ScopeGate, Expires: now.Add(time.Hour)}
	old, rotated := NewCapabilities([]byte("old secret")), NewCapabilities([]byte("new secret"), []byte("old secret"))
	text := old.Mint(want)
	if got, err := rotated.Check(text, now); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v: a secret that is rotated out still checks", got, err, want)
	}
	if again := rotated.Mint(want); again == text {
		t.Error("a rotated pair makes with the old secret")
	}
	if _, err := old.Check(text, now.Add(time.Hour+time.Second)); err == nil {
		t.Error("an expired one passes")
	}
	if _, err := NewCapabilities([]byte("another")).Check(text, now); err == nil {
		t.Error("one of another secret passes")
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		forged := append([]byte(nil), raw...)
		forged[i] ^= 1
		if k, err := old.Check(base64.RawURLEncoding.EncodeToString(forged), now); err == nil {
			t.Errorf("with bit %d changed it passes as %+v", 8*i, k)
		}
	}
	for _, text := range []string{"", "x", text[:10], text + "=", "../" + text} {
		if _, err := old.Check(text, now); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}
