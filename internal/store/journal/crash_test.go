package journal

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

const (
	crashDirVar   = "SERIN_JOURNAL_CRASH_DIR"
	crashRoundVar = "SERIN_JOURNAL_CRASH_ROUND"
	crashRounds   = 8
	crashWriters  = 8
)

// A crash message is 8 bytes each of round, writer and the writer's count, then
// noise up to its length, then the SHA-256 of all before.

// crashChild appends until it is killed and prints position and checksum of
// each message after its acknowledgment.
func crashChild(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	var round uint64
	fmt.Sscan(os.Getenv(crashRoundVar), &round)
	j, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		fail(err)
	}
	l, err := j.Log(ctx, "crash", LogOptions{})
	if err != nil {
		fail(err)
	}
	for w := range uint64(crashWriters) {
		go func() {
			noise := rand.NewChaCha8([32]byte{byte(round), byte(w)})
			for n := uint64(0); ; n++ {
				data := make([]byte, 24+noise.Uint64()%(64<<10))
				noise.Read(data)
				binary.BigEndian.PutUint64(data, round)
				binary.BigEndian.PutUint64(data[8:], w)
				binary.BigEndian.PutUint64(data[16:], n)
				sum := sha256.Sum256(data)
				pos, err := l.Append(ctx, append(data, sum[:]...))
				if err != nil {
					fail(err)
				}
				// One write is one line even among goroutines.
				os.Stdout.Write(fmt.Appendf(nil, "%d %x\n", pos, sum))
			}
		}()
	}
	select {}
}

// TestKill kills a writer at random instants, again and again on one directory,
// and then looks for every message that was ever acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	acked := make(map[uint64]string) // checksum by position
	for round := range crashRounds {
		// The clock starts with the first acknowledgment; the last rounds are
		// also killed while they recover.
		wait := time.Duration(random.Int64N(int64(500 * time.Millisecond)))
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashDirVar+"="+dir, fmt.Sprint(crashRoundVar, "=", round))
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		inRecovery := round%4 == 3
		if inRecovery {
			time.AfterFunc(wait/2, func() { cmd.Process.Kill() })
		}
		before := len(acked)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var pos uint64
			var sum string
			if _, err := fmt.Sscan(line, &pos, &sum); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			if old, ok := acked[pos]; ok {
				t.Fatalf("position %d acknowledged twice: %s, %s", pos, old, sum)
			}
			if acked[pos] = sum; len(acked) == before+1 && !inRecovery {
				time.AfterFunc(wait, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait() // its error is the kill
		if !cmd.ProcessState.Exited() && len(acked) == before && !inRecovery {
			t.Errorf("round %d: killed without an acknowledgment", round)
		}
		if cmd.ProcessState.Exited() {
			t.Fatalf("round %d: child ended by itself: %v", round, cmd.ProcessState)
		}
		checkCrashed(t, dir, round, acked)
	}
}

// checkCrashed reads the log after a kill.
func checkCrashed(t *testing.T, dir string, round int, acked map[uint64]string) {
	t.Helper()
	j := open(t, Options{Dir: dir})
	l := openLog(t, j, "crash", LogOptions{})
	next := make(map[[2]uint64]uint64) // count due, by round and writer
	found, stored := 0, uint64(0)
	err := l.Scan(testContext(t), 1, 1<<62, func(m Message) error {
		if stored++; m.Pos != stored {
			return fmt.Errorf("position %d came where %d was due", m.Pos, stored)
		}
		if len(m.Data) < 24+sha256.Size {
			return fmt.Errorf("position %d has %d bytes", m.Pos, len(m.Data))
		}
		body, tail := m.Data[:len(m.Data)-sha256.Size], m.Data[len(m.Data)-sha256.Size:]
		sum := sha256.Sum256(body)
		if string(sum[:]) != string(tail) {
			return fmt.Errorf("position %d is damaged", m.Pos)
		}
		if want, ok := acked[m.Pos]; ok {
			if found++; want != fmt.Sprintf("%x", sum) {
				return fmt.Errorf("position %d is not the message acknowledged", m.Pos)
			}
		}
		// A writer waits for each acknowledgment, so its counts go up by one.
		who := [2]uint64{binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])}
		if n := binary.BigEndian.Uint64(body[16:]); n != next[who] {
			return fmt.Errorf("position %d: writer %v has %d where %d was due", m.Pos, who, n, next[who])
		}
		next[who]++
		return nil
	})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	if found != len(acked) {
		t.Fatalf("round %d: %d of %d acknowledged messages are there", round, found, len(acked))
	}
	t.Logf("round %d: %d acknowledged, %d stored", round, len(acked), stored)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
