// A text of thousands of characters, one element each, made once; colors and the place looked at change without touching the rest.
// Characters arrive as data and become text nodes: nothing in them is ever read as HTML.
const PAUSE = 40; // milliseconds between two places reported while the pointer moves

export default {
  template: `<div class="linked-text" dir="auto" tabindex="0" role="group" :aria-label="label"
    @pointermove="hover" @click="pick" @keydown="key" @focus="focus"></div>`,
  props: { characters: Array, version: Number, levels: String, current: Number, picked: Number, label: String },
  mounted() {
    this.place = -1;
    this.write();
  },
  unmounted() {
    clearTimeout(this.timer);
  },
  watch: {
    // Not the characters themselves: they arrive as a new array with every change of anything.
    version() {
      this.write();
    },
    levels() {
      this.color();
    },
    current(index) {
      this.look(index, false);
    },
    picked() {
      this.mark("picked", this.picked);
    },
  },
  methods: {
    write() {
      const all = document.createDocumentFragment();
      this.spans = (this.characters || []).map((character, index) => {
        const span = document.createElement("span");
        span.textContent = character === "\n" ? "↵\n" : character;
        span.className = "character" + (character === "\n" ? " line-end" : "");
        span.dataset.index = index;
        all.appendChild(span);
        return span;
      });
      this.$el.replaceChildren(all);
      this.place = -1;
      this.color();
      this.look(this.current, false);
      this.mark("picked", this.picked);
    },
    color() {
      const levels = atob(this.levels || "");
      this.spans.forEach((span, index) => {
        const level = index < levels.length ? (levels.charCodeAt(index) << 24) >> 24 : 0;
        span.style.backgroundColor = level
          ? `color-mix(in srgb, var(--${level > 0 ? "warm" : "cool"}) ${Math.round((Math.abs(level) / 127) * 100)}%, transparent)`
          : "";
        span.classList.toggle("strong", Math.abs(level) > 76);
      });
    },
    mark(name, index) {
      this.$el.querySelector("." + name)?.classList.remove(name);
      this.spans[index]?.classList.add(name);
    },
    look(index, tell) {
      if (index === this.place || !this.spans[index]) return;
      this.place = index;
      this.mark("current", index);
      if (!tell) return;
      const now = performance.now();
      clearTimeout(this.timer);
      const report = () => {
        this.reported = performance.now();
        this.$emit("look", this.place);
      };
      if (now - (this.reported || 0) > PAUSE) report();
      else this.timer = setTimeout(report, PAUSE);
    },
    index(event) {
      const span = event.target.closest?.("[data-index]");
      return span ? Number(span.dataset.index) : -1;
    },
    hover(event) {
      if (event.pointerType !== "touch") this.look(this.index(event), true);
    },
    pick(event) {
      const index = this.index(event);
      if (index < 0) return;
      this.look(index, true);
      this.$emit("pick", index);
    },
    focus() {
      if (this.place < 0) this.look(0, true);
    },
    key(event) {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        if (this.place >= 0) this.$emit("pick", this.place);
        return;
      }
      const rightToLeft = getComputedStyle(this.$el).direction === "rtl";
      const steps = { ArrowRight: rightToLeft ? -1 : 1, ArrowLeft: rightToLeft ? 1 : -1, Home: -Infinity, End: Infinity };
      let next;
      if (event.key in steps) next = this.place + steps[event.key];
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") next = this.otherLine(event.key === "ArrowDown" ? 1 : -1);
      else return;
      event.preventDefault();
      next = Math.min(Math.max(next, 0), this.spans.length - 1);
      this.look(next, true);
      this.spans[next].scrollIntoView({ block: "nearest" });
    },
    otherLine(direction) {
      // The next character of another line that stands nearest to the same place of it.
      const from = this.spans[this.place]?.getBoundingClientRect();
      if (!from) return 0;
      let best = this.place, found = null, line = null;
      for (let index = this.place + direction; this.spans[index]; index += direction) {
        const here = this.spans[index].getBoundingClientRect();
        if (Math.abs(here.top - from.top) < from.height / 2) continue;
        if (line === null) line = here.top;
        if (Math.abs(here.top - line) > from.height / 2) break;
        const distance = Math.abs(here.left - from.left);
        if (found === null || distance < found) [best, found] = [index, distance];
      }
      return best;
    },
  },
};
