// Values of many units as small colored cells in named groups (layers); a click, or the keyboard, chooses one.
export default {
  template: `<div class="heat-cells">
    <div v-for="(group, layer) in groups" :key="layer" class="heat-group">
      <div class="heat-name">{{ group.name }}</div>
      <div class="heat-row" tabindex="0" role="group" :aria-label="group.name" dir="ltr" :data-layer="layer"
        @click="pick" @keydown="key($event, layer)"></div>
    </div>
  </div>`,
  props: { groups: Array, version: Number, levels: String, chosen: String },
  mounted() {
    this.build();
  },
  watch: {
    // Not the groups themselves: they arrive as a new array with every change of anything.
    version() {
      this.$nextTick(this.build);
    },
    levels() {
      this.color();
    },
    chosen() {
      this.mark();
    },
  },
  methods: {
    build() {
      this.cells = [...this.$el.querySelectorAll(".heat-row")].map((row, layer) => {
        const cells = Array.from({ length: this.groups[layer].count }, (_, unit) => {
          const cell = document.createElement("i");
          cell.dataset.unit = unit;
          return cell;
        });
        row.replaceChildren(...cells);
        return cells;
      });
      this.color();
      this.mark();
    },
    color() {
      const all = (this.levels || "").split(" ");
      this.cells.forEach((cells, layer) => {
        const levels = atob(all[layer] || "");
        cells.forEach((cell, unit) => {
          const level = unit < levels.length ? (levels.charCodeAt(unit) << 24) >> 24 : 0;
          cell.style.backgroundColor = `color-mix(in srgb, var(--${level > 0 ? "warm" : "cool"}) ${Math.round((Math.abs(level) / 127) * 100)}%, var(--heat-zero))`;
          cell.title = `${unit + 1}: ${(level / 127).toFixed(2)}`;
        });
      });
    },
    mark() {
      this.$el.querySelector("i.chosen")?.classList.remove("chosen");
      const [layer, unit] = this.place();
      this.cells[layer]?.[unit]?.classList.add("chosen");
    },
    place() {
      return (this.chosen || "-1 -1").split(" ").map(Number);
    },
    pick(event) {
      const cell = event.target.closest("[data-unit]");
      if (cell) this.$emit("pick", [Number(cell.parentElement.dataset.layer), Number(cell.dataset.unit)]);
    },
    key(event, layer) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const [chosenLayer, chosenUnit] = this.place();
      const from = chosenLayer === layer ? chosenUnit : -1;
      const unit = Math.min(Math.max(from + step, 0), this.cells[layer].length - 1);
      this.$emit("pick", [layer, unit]);
    },
  },
};
