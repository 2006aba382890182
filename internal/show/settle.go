package show

import "slices"

// Looks are what was seen of a node on which pods come and go, look by look:
// between reading a record and looking at the kernel its DEL may have begun. So
// what is wrong is looked at again, until two looks agree.
type Looks struct {
	list    []Record
	pending map[string]bool // names of those that are wrong, and were seen so once
}

// First is the first look.
func First(list []Record) *Looks {
	l := &Looks{list: list, pending: map[string]bool{}}
	for i := range list {
		if list[i].Wrong() {
			l.pending[list[i].Name] = true
		}
	}
	return l
}

// Settled reports whether another look would say nothing new.
func (l *Looks) Settled() bool { return len(l.pending) == 0 }

// Pending reports whether a record is to be looked at again.
func (l *Looks) Pending(r *Record) bool { return l.pending[r.Name] }

// Again takes another look at those that are pending. One that is gone was being
// taken back.
func (l *Looks) Again(now []Record) {
	seen := map[string]*Record{}
	for i := range now {
		seen[now[i].Name] = &now[i]
	}
	var list []Record
	for _, r := range l.list {
		again := seen[r.Name]
		switch {
		case !l.pending[r.Name]:
			list = append(list, r)
			continue
		case again == nil, !again.Wrong(), again.agrees(&r):
			delete(l.pending, r.Name)
		}
		if again != nil {
			list = append(list, *again)
		}
	}
	l.list = list
}

// List is what is certain: of records about which no two looks agree, no
// differences are told.
func (l *Looks) List() []Record {
	for i := range l.list {
		r := &l.list[i]
		if !l.pending[r.Name] {
			continue
		}
		r.Differs = ""
		for _, changes := range [][]Change{r.Node, r.InPod} {
			for j := range changes {
				changes[j].Differs = ""
			}
		}
	}
	return l.list
}

// agrees reports whether two looks at a record say the same, with the same records
// of its pod beside it.
func (r *Record) agrees(o *Record) bool {
	same := func(a, b Change) bool { return a.Command == b.Command && a.Differs == b.Differs }
	return r.State == o.State && r.Netns == o.Netns && r.Error == o.Error && r.Beside == o.Beside && r.Differs == o.Differs &&
		(r.Process == nil) == (o.Process == nil) && slices.EqualFunc(r.Node, o.Node, same) && slices.EqualFunc(r.InPod, o.InPod, same)
}
